"""The registry on real stores: what was committed is there after a restart, on SQLite and on PostgreSQL alike."""

from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.instances import CheckBody, EndpointBody
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.registry import Query
from econeura_daemon.registry.model import Health, Verdict
from econeura_daemon.storage import open_store
from tests.storage.test_conformance import Gate
from tests.support.registry_rig import open_rig

CLOCK = SystemClock()
QUIET = CheckBody(interval_ms=3_600_000)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def opened(request, tmp_path):
    """Open a rig on the same database as often as it is called."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""

    @asynccontextmanager
    async def open_it():
        async with open_store(StorageSettings(url=url), tmp_path) as store, open_rig(store, CLOCK) as rig:
            yield rig, store

    return open_it


def listed(rig):
    return {one.id: one for one in rig.registry.find(Query())}


async def test_everything_that_was_said_and_found_out_is_there_after_a_restart(opened):
    with trio.fail_after(60):
        async with opened() as (rig, _store):
            await rig.register("plain", ttl_ms=60_000)
            await rig.register(
                "full",
                host="::1",
                name="Büro ☃",
                version="2",
                tags=("a", "b"),
                metadata={"zone": ["x", None, {"ü": 1.5}]},
                weight=7,
                ttl_ms=1000,
                check=CheckBody(path="/x?y=1", interval_ms=3_600_000, unhealthy_after=9),
                deregister_after_ms=1_000_000,
                endpoints=(EndpointBody(endpoint="/e", method="PUT", description="d", requires_auth=True),),
            )
            await rig.registry.drain("full", draining=True)
            await rig.register("gone", ttl_ms=60_000)
            await rig.registry.deregister("gone")
            await rig.register("ill", check=QUIET)
            generation, written = rig.registry.get("ill").generation, trio.Event()
            rig.registry.follow(lambda change: change.after.health.verdict and written.set())
            for field, value in (("expired", True), ("stale", True), ("verdict", Verdict.WARNING)):
                rig.registry.settler.want("ill", generation, reason="so", **{field: value})
            await written.wait()
            before, index = listed(rig), rig.registry.index
            assert set(before) == {"plain", "full", "ill"}
        async with opened() as (rig, _store):
            after = listed(rig)
            assert rig.registry.index > index
            assert set(after) == set(before)
            assert after["full"] == before["full"]
            assert after["full"].health == Health(draining=True)
            assert attrs.evolve(after["ill"], health=Health()) == attrs.evolve(before["ill"], health=Health())
            await rig.registry.drain("full", draining=False)
        async with opened() as (rig, _store):
            assert not rig.registry.get("full").health.draining


async def test_a_work_that_fails_beside_others_takes_nothing_of_theirs_along(opened):
    """On PostgreSQL the whole group runs again, on what stood before it."""
    with trio.fail_after(60):
        async with opened() as (rig, store):
            await rig.register("a", ttl_ms=60_000)
            changes = []
            rig.registry.follow(changes.append)

            def also(connection, _registered):
                raise ZeroDivisionError

            async def fail(number):
                body = rig.body(f"bad-{number}", ttl_ms=60_000)
                with pytest.raises(ZeroDivisionError):
                    await rig.registry.register(body, also)

            gate = Gate()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.transact, gate.work)
                await gate.reached.wait()  # all of them in one group, behind this
                for number in range(20):
                    nursery.start_soon(rig.register, "a")
                    nursery.start_soon(fail, number)
                    nursery.start_soon(rig.register, f"good-{number}")
                await wait_all_tasks_blocked()
                gate.open()
            assert not (await rig.registry.register(rig.body("bad-0", ttl_ms=60_000))).replaced
            await rig.registry.deregister("bad-0")
            await rig.register("a", ttl_ms=60_000)
            assert set(listed(rig)) == {"a", *(f"good-{number}" for number in range(20))}
            indexes = [change.index for change in changes if change.is_seen]
            assert indexes == sorted(set(indexes))
            picture = {"a": None}
            for change in changes:
                if change.instance.id in picture and picture[change.instance.id] is not None:
                    assert change.before.generation == picture[change.instance.id].generation
                picture[change.instance.id] = change.after
            assert {key: one for key, one in picture.items() if one is not None} == listed(rig)
            await store.ping()
            kept = listed(rig)
        async with opened() as (rig, _store):
            assert {key: one.generation for key, one in listed(rig).items()} == {
                key: one.generation for key, one in kept.items()
            }
