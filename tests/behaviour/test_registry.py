"""Leases, probes, preserve mode and watching, under a clock that jumps."""

import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.core.instances import CheckBody, EndpointBody
from econeura_daemon.registry import Query
from econeura_daemon.registry.model import Verdict
from tests.support.clocks import TrioClock
from tests.support.inline_store import open_inline_store
from tests.support.registry_rig import FAIL, PASS, open_rig

CHECK = CheckBody(interval_ms=1000)


async def test_a_lease_expires_after_one_lease_and_not_before(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        await rig.register("a", ttl_ms=30_000)
        await trio.sleep(20)
        rig.registry.renew("a")
        await trio.sleep(29.9)
        assert rig.status("a") == "healthy"
        await trio.sleep(0.2)
        assert rig.status("a") == "unhealthy"
        rig.registry.renew("a")
        await trio.sleep(0.1)
        assert rig.status("a") == "healthy"


async def test_the_first_result_decides_three_failures_flip_and_two_passes_flip_back(autojump_clock):
    results = []

    async def probe(_said, _check):
        await trio.lowlevel.checkpoint()
        seen.append(rig.status("a"))
        return results.pop(0) if results else PASS

    seen = []
    async with open_inline_store() as store, open_rig(store, TrioClock(), probe) as rig:
        results += [PASS, FAIL, FAIL, PASS, FAIL, FAIL, FAIL, PASS, PASS, PASS]
        await rig.register("a", check=CHECK)
        await trio.sleep(15)
        assert seen[:10] == ["unknown", *["healthy"] * 6, *["unhealthy"] * 2, "healthy"]
        assert (await rig.events("service.status_changed")) == ["service.status_changed"] * 3


async def test_what_was_found_out_about_an_earlier_registration_changes_nothing(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        first = await rig.register("a", ttl_ms=60_000)
        await rig.registry.drain("a", draining=True)
        second = await rig.register("a", ttl_ms=90_000)
        assert second.health.draining
        rig.registry.settler.want("a", first.generation, expired=True)
        await trio.sleep(1)
        assert not rig.registry.get("a").health.expired


async def test_of_fifty_the_ten_dead_are_gone_within_60_s_and_preserve_mode_ends(autojump_clock):
    async def probe(said, _check):
        await trio.lowlevel.checkpoint()
        return FAIL if int(said.id) < 10 else PASS

    async with open_inline_store() as store, open_rig(store, TrioClock(), probe) as rig:
        for number in range(50):
            await rig.register(str(number), ttl_ms=30_000)
        was_active = False
        for _ in range(60):
            for number in range(10, 50):
                rig.registry.renew(str(number))
            await trio.sleep(1)
            was_active |= rig.registry.leases.preserve_mode()
        assert was_active
        assert {rig.status(str(number)) for number in range(10)} == {"unhealthy"}
        assert {rig.status(str(number)) for number in range(10, 50)} == {"healthy"}
        await trio.sleep(5)
        assert not rig.registry.leases.preserve_mode()


async def test_a_restart_grants_a_lease_of_grace_and_the_index_goes_on(autojump_clock):
    clock = TrioClock()
    async with open_inline_store() as store:
        async with open_rig(store, clock) as rig:
            await rig.register("a", ttl_ms=30_000)
            await rig.registry.drain("a", draining=True)
            index = rig.registry.index
            await trio.sleep(29)
        async with open_rig(store, clock) as rig:
            assert rig.registry.index > index
            assert rig.registry.watches.has_changed(Query(), index), (
                "whoever comes with it is answered at once"
            )
            shown = rig.registry.shown(rig.registry.get("a"))
            assert (shown["status"], shown["lastHeartbeat"]) == ("draining", None)
            await rig.registry.drain("a", draining=False)
            await trio.sleep(29)
            assert rig.status("a") == "healthy"
            await trio.sleep(2)
            assert rig.status("a") == "unhealthy"


async def test_after_a_restart_what_had_run_out_has_run_out_until_it_is_heard_of(autojump_clock):
    clock = TrioClock()
    async with open_inline_store() as store:
        async with open_rig(store, clock) as rig:
            await rig.register("a", ttl_ms=30_000)
            await trio.sleep(31)
        async with open_rig(store, clock) as rig:
            await trio.sleep(1)
            assert rig.status("a") == "unhealthy"
            rig.registry.renew("a")
            await trio.sleep(1)
            assert rig.status("a") == "healthy"


async def test_what_was_found_out_just_before_the_end_is_there_after_a_restart(autojump_clock):
    clock = TrioClock()
    async with open_inline_store() as store:
        async with open_rig(store, clock) as rig:
            one = await rig.register("a", ttl_ms=30_000)
            rig.registry.settler.want("a", one.generation, expired=True)
        async with open_rig(store, clock) as rig:
            assert rig.status("a") == "unhealthy"


async def test_a_restart_ends_preserve_mode_and_what_it_kept_has_a_lease_like_all_others(autojump_clock):
    clock = TrioClock()
    async with open_inline_store() as store:
        async with open_rig(store, clock) as rig:
            for number in range(5):
                await rig.register(str(number), ttl_ms=30_000)
            await trio.sleep(31)
            assert rig.registry.get("0").health.stale
        async with open_rig(store, clock) as rig:
            assert not rig.registry.leases.preserve_mode()
            await trio.sleep(1)
            assert not rig.registry.get("0").health.stale
            assert rig.statuses() == {"healthy"}


async def test_a_watcher_wakes_for_its_own_list_and_for_nothing_else(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        await rig.register("a", ttl_ms=3_600_000)
        woken = []

        async def watch():
            woken.append(await rig.registry.watch(Query("web"), rig.registry.index, 600) is not None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await wait_all_tasks_blocked()
            await rig.register("other", type="db", ttl_ms=3_600_000)
            rig.registry.renew("a")
            await rig.registry.put_endpoints("a", (EndpointBody(endpoint="/x"),))
            await wait_all_tasks_blocked()
            assert woken == []
            await rig.registry.deregister("a")
        assert woken == [True]


async def test_what_is_found_out_of_one_in_maintenance_wakes_nobody_for_nobody_sees_it(autojump_clock):
    results = [PASS]

    async def probe(_said, _check):
        await trio.lowlevel.checkpoint()
        return results.pop() if results else FAIL

    async with open_inline_store() as store, open_rig(store, TrioClock(), probe) as rig:
        await rig.register("a", ttl_ms=30_000, check=CHECK)
        await trio.sleep(1)
        drained = await rig.registry.drain("a", draining=True)
        index = rig.registry.index
        assert await rig.registry.watch(Query("web"), index, 60) is None
        found = rig.registry.get("a")
        assert (found.health.expired, found.health.verdict) == (True, Verdict.UNHEALTHY)
        assert found.to_json() == drained.to_json()
        assert not rig.registry.watches.has_changed(Query("web"), index)
