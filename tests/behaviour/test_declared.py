"""Static services: the registry is as the configuration says, whatever happens."""

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.core.errors import ConflictError, StoreUnavailableError
from econeura_daemon.core.instances import CheckBody, CheckKind, EndpointBody
from econeura_daemon.registry import RegisterService
from tests.support.clocks import TrioClock
from tests.support.declared_rig import ONE, TWO, ids, open_declared, opened, told
from tests.support.inline_store import open_inline_store
from tests.support.registry_rig import FAIL, PASS, open_rig


async def test_it_is_there_from_the_start_and_looks_like_one_that_registered(autojump_clock):
    said = {"check": CheckBody(kind=CheckKind.TCP), "tags": ("a", "b", "a"), "metadata": {"zone": 1}}
    service = attrs.evolve(ONE, endpoints=(EndpointBody(endpoint="/x"),), version="1", **said)
    async with opened(service) as (_, rig, _declared):
        await rig.registry.register(
            RegisterService(type="db", host="10.0.0.7", port=5432, id="registered", version="1", **said)
        )
        await trio.sleep(1)
        static, registered = (rig.registry.shown(rig.registry.get(key)) for key in ("db-1", "registered"))
        assert static.pop("static")
        for one in (static, registered):
            for key in ("id", "name", "registeredAt", "lastHeartbeat"):
                del one[key]
        assert static == registered
        assert static["status"] == "healthy"
        assert [
            one.instance.id for one in rig.registry.find_endpoints(description=None, method=None, type=None)
        ] == ["db-1"]


async def test_checks_alone_tell_how_it_is_and_it_is_never_removed(autojump_clock):
    results = [PASS, FAIL, FAIL, FAIL]

    async def probe(_said, _check):
        await trio.lowlevel.checkpoint()
        return results.pop(0) if results else FAIL

    async with opened(ONE, probe=probe) as (_, rig, _declared):
        await trio.sleep(1)
        assert rig.status("db-1") == "healthy"
        assert rig.registry.renew("db-1")["ttlMs"] is None
        await trio.sleep(300)
        assert rig.status("db-1") == "unhealthy"
        rig.registry.renew("db-1")
        await trio.sleep(7200)
        assert rig.status("db-1") == "unhealthy"
        assert await rig.events("service.deregistered") == []


async def test_nobody_but_the_configuration_changes_it_except_for_a_drain(autojump_clock):
    async with opened(ONE) as (_, rig, _declared):
        with pytest.raises(ConflictError, match="'db-1' is declared in the configuration"):
            await rig.registry.deregister("db-1")
        with pytest.raises(ConflictError):
            await rig.register("db-1")
        with pytest.raises(ConflictError):
            await rig.registry.put_endpoints("db-1", ())
        assert (await rig.registry.drain("db-1", draining=True)).status.value == "draining"


async def test_a_restart_keeps_verdict_and_drain_of_what_stayed_and_says_nothing_about_it(autojump_clock):
    clock = TrioClock()
    async with open_inline_store() as store:
        async with open_rig(store, clock) as rig, open_declared(rig, ONE, TWO):
            await trio.sleep(1)
            await rig.registry.drain("db-2", draining=True)
            before = [rig.registry.get(key) for key in ("db-1", "db-2")]
            events = await rig.events()

        async def hangs(_said, _check):
            await trio.sleep_forever()

        async with open_rig(store, clock, hangs) as rig, open_declared(rig, ONE, TWO):
            await trio.sleep(1)
            assert [rig.registry.get(key) for key in ("db-1", "db-2")] == before
            assert [rig.status(key) for key in ("db-1", "db-2")] == ["healthy", "draining"]
            assert await rig.events() == events


async def test_what_is_gone_from_the_file_is_deregistered_at_the_next_start(autojump_clock):
    clock = TrioClock()
    async with open_inline_store() as store:
        async with open_rig(store, clock) as rig, open_declared(rig, ONE, TWO):
            await rig.register("registered")
        async with open_rig(store, clock) as rig, open_declared(rig, TWO):
            assert ids(rig) == ["db-2", "registered"]
            (gone,) = await told(rig, "service.deregistered")
            assert gone["service"]["id"] == "db-1"
            assert gone["reason"] == "the configuration declares it no more"


async def test_a_reload_adds_removes_and_changes_and_leaves_the_rest_alone(autojump_clock):
    probed = []

    async def probe(said, _check):
        probed.append(said.id)
        await trio.lowlevel.checkpoint()
        return PASS

    async with opened(ONE, TWO, probe=probe) as (_, rig, declared):
        await trio.sleep(1)
        stays = rig.registry.get("db-1")
        probed.clear()
        third = attrs.evolve(ONE, id="db-3", host="10.0.0.9")
        declared.use((ONE, attrs.evolve(TWO, weight=7), third))
        await wait_all_tasks_blocked()
        assert ids(rig) == ["db-1", "db-2", "db-3"]
        assert rig.registry.get("db-1") is stays
        changed = rig.registry.get("db-2")
        assert (changed.registration.weight, changed.status.value) == (7, "healthy"), (
            "its address is the same"
        )
        await trio.sleep(1)
        assert set(probed) == {"db-2", "db-3"}
        declared.use((attrs.evolve(ONE, port=1),))
        await wait_all_tasks_blocked()
        assert ids(rig) == ["db-1"]
        assert rig.status("db-1") == "unknown", "what was found out was about another address"
        assert [one["service"]["id"] for one in await told(rig, "service.deregistered")] == ["db-2", "db-3"]


async def test_it_takes_an_id_from_a_registrant_who_is_told_when_he_comes_again(autojump_clock, caplog):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        await rig.register("db-1", ttl_ms=30_000)
        await rig.registry.drain("db-1", draining=True)
        async with open_declared(rig, ONE):
            assert "replaces it: db-1" in caplog.text
            assert rig.registry.shown(rig.registry.get("db-1"))["host"] == "10.0.0.7"
            assert rig.status("db-1") == "draining"
            rig.registry.renew("db-1")
            with pytest.raises(ConflictError):
                await rig.register("db-1", ttl_ms=30_000)
            await rig.registry.drain("db-1", draining=False)
            await trio.sleep(100)
            assert rig.status("db-1") == "healthy", "it has no lease that could run out"


async def test_a_store_in_trouble_delays_what_a_reload_says_and_loses_nothing(autojump_clock):
    async with opened(ONE) as (store, rig, declared):
        store.trouble = StoreUnavailableError("gone")
        declared.use((TWO,))
        await trio.sleep(10)
        assert ids(rig) == ["db-1"]
        store.trouble = None
        await trio.sleep(2)
        assert ids(rig) == ["db-2"]
