"""Time itself against the registry: stalls of our own loop, suspended machines, steps of the wall clock."""

from datetime import timedelta

import pytest
import trio

from econeura_daemon.core.instances import CheckBody
from econeura_daemon.registry import Timer, Timers
from tests.support.clocks import TrioClock
from tests.support.inline_store import open_inline_store
from tests.support.registry_rig import FAIL, PASS, open_rig


class BootClock:
    """Seconds since boot: those of a suspend are in it, and not in Trio's."""

    def __init__(self):
        self.suspended = 0.0

    def __call__(self):
        return trio.current_time() + self.suspended


async def unwell(_said, _check):
    await trio.lowlevel.checkpoint()
    return FAIL


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_step_of_the_wall_clock_neither_expires_nor_prolongs_nor_removes(autojump_clock, hours):
    clock = TrioClock()
    async with open_inline_store() as store, open_rig(store, clock) as rig:
        await rig.register("a", ttl_ms=30_000, deregister_after_ms=60_000)
        clock.step(timedelta(hours=hours))
        await trio.sleep(29)
        assert rig.status("a") == "healthy"
        await trio.sleep(2)
        assert rig.status("a") == "unhealthy"
        clock.step(timedelta(hours=hours))
        await trio.sleep(58)
        assert rig.status("a") == "unhealthy"
        await trio.sleep(3)
        assert rig.ids() == []


@pytest.mark.parametrize("seconds", [3.0, 120.0, 3600.0])
async def test_time_in_which_the_process_was_stopped_is_no_part_of_any_lease(autojump_clock, seconds):
    """Nothing answers the probes here: it is not they who save the leases."""
    async with open_inline_store() as store, open_rig(store, TrioClock(), unwell) as rig:
        for number in range(10):
            await rig.register(str(number), ttl_ms=30_000)
        await trio.sleep(20.5)
        autojump_clock.jump(seconds)  # and no task has run
        await trio.sleep(8)
        assert rig.statuses() == {"healthy"}
        assert rig.registry.leases.preserve_mode()
        for number in range(5):
            rig.registry.renew(str(number))
        await trio.sleep(3)
        assert [rig.status(str(number)) for number in range(10)] == ["healthy"] * 5 + ["unhealthy"] * 5
        for _ in range(4):
            await trio.sleep(10)
            for number in range(5):
                rig.registry.renew(str(number))
        assert not rig.registry.leases.preserve_mode()


@pytest.mark.parametrize("late", [0.2, 1.5])
async def test_heartbeats_that_lay_in_the_sockets_while_our_loop_was_busy_are_heard_first(
    autojump_clock, late
):
    async with open_inline_store() as store, open_rig(store, TrioClock(), unwell) as rig:
        await rig.register("a", ttl_ms=200)
        await rig.register("dead", ttl_ms=200)
        await trio.sleep(0.1)
        autojump_clock.jump(late)
        await trio.sleep(0.05)  # by then it is read
        assert rig.statuses() == {"healthy"}
        rig.registry.renew("a")
        for _ in range(30):
            await trio.sleep(0.1)
            rig.registry.renew("a")
        assert (rig.status("a"), rig.status("dead")) == ("healthy", "unhealthy")
        assert not rig.registry.leases.preserve_mode()


async def test_who_was_heard_after_one_delay_is_waited_for_after_the_next(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock(), unwell) as rig:
        await rig.register("a", ttl_ms=200)
        for _ in range(3):
            await trio.sleep(0.1)
            autojump_clock.jump(0.5)
            await trio.sleep(0.05)
            assert rig.status("a") == "healthy"
            rig.registry.renew("a")


async def test_a_loop_that_is_late_all_the_time_expires_a_dead_lease_all_the_same(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock(), unwell) as rig:
        await rig.register("dead", ttl_ms=500)
        for _ in range(20):
            await trio.sleep(0.2)
            autojump_clock.jump(1.5)
        assert rig.status("dead") == "unhealthy"


async def test_after_a_suspend_every_lease_lasts_once_in_full(autojump_clock):
    boot = BootClock()
    async with open_inline_store() as store, open_rig(store, TrioClock(), unwell, boot_time=boot) as rig:
        await rig.register("a", ttl_ms=30_000)
        await trio.sleep(29.2)
        boot.suspended += 8 * 3600
        await trio.sleep(29)
        assert rig.status("a") == "healthy"
        await trio.sleep(2)
        assert rig.status("a") == "unhealthy"


async def test_a_stop_lengthens_the_time_until_removal(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock(), unwell) as rig:
        await rig.register("a", check=CheckBody(interval_ms=1000), deregister_after_ms=30_000)
        await trio.sleep(11)
        autojump_clock.jump(120)
        await trio.sleep(15)
        assert rig.status("a") == "unhealthy"
        await trio.sleep(10)
        assert rig.ids() == []


async def test_a_probe_that_fails_because_our_own_loop_stood_still_says_nothing_of_the_instance(
    autojump_clock,
):
    stalls = iter([True])

    async def probe(_said, check):
        if next(stalls, False):
            autojump_clock.jump(120)
            with trio.move_on_after(check.timeout_ms / 1000):
                await trio.sleep_forever()
            return FAIL
        await trio.lowlevel.checkpoint()
        return PASS

    async with open_inline_store() as store, open_rig(store, TrioClock(), probe) as rig:
        await rig.register("a", check=CheckBody(unhealthy_after=1))
        await trio.sleep(150)
        assert rig.status("a") == "healthy"
        assert await rig.events("service.status_changed") == ["service.status_changed"]


async def test_a_bug_in_what_one_timer_does_keeps_no_other_from_its_time(autojump_clock, caplog):
    timers, fired = Timers(), []

    def broken(_now):
        raise ZeroDivisionError

    began = trio.current_time()
    for seconds, fire in ((1, broken), (1, fired.append), (2, fired.append)):
        timers.set(Timer(fire), began + seconds)
    with trio.move_on_after(5):
        await timers.run()
    assert [time - began for time in fired] == [1, 2]
    assert "a timer failed" in caplog.text


@pytest.mark.parametrize(("seconds", "status"), [(2, "healthy"), (100, "unhealthy")])
async def test_a_stall_gives_another_chance_to_who_ran_out_just_before_and_to_nobody_else(
    autojump_clock, seconds, status
):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        await rig.register("a", ttl_ms=30_000)
        await trio.sleep(30 + seconds)
        assert rig.status("a") == "unhealthy"
        autojump_clock.jump(5)
        await trio.sleep(3)
        assert (rig.status("a"), rig.registry.get("a").health.stale) == (status, status == "healthy")
