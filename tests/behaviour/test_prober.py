"""The prober: when it probes, how many at once, what it drops, and how it ends."""

from itertools import pairwise

import pytest
import trio

from econeura_daemon.core.errors import NotFoundError
from econeura_daemon.core.instances import CheckBody
from econeura_daemon.probes import Outcome, ProbeResult
from econeura_daemon.registry.model import Verdict
from tests.support.clocks import TrioClock
from tests.support.inline_store import open_inline_store
from tests.support.registry_rig import FAIL, PASS, open_rig

CHECK = CheckBody(interval_ms=1000)
WARNING = ProbeResult(outcome=Outcome.WARNING, detail="HTTP 429 'too many'")


class Held:
    """A probe that ends when the test says so, whether or not it is cancelled meanwhile."""

    def __init__(self, *, shielded):
        self.shielded = shielded
        self.calls = []
        self.cancelled = 0

    async def __call__(self, said, _check):
        done = trio.Event()
        self.calls.append((said, done))
        try:
            with trio.CancelScope(shield=self.shielded):
                await done.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return FAIL


async def test_the_first_probe_comes_within_a_second_and_the_next_about_an_interval_later(autojump_clock):
    times = {}

    async def probe(said, _check):
        times.setdefault(said.id, []).append(trio.current_time())
        await trio.lowlevel.checkpoint()
        return PASS

    async with open_inline_store() as store, open_rig(store, TrioClock(), probe) as rig:
        began = trio.current_time()
        for number in range(200):
            await rig.register(str(number), check=CheckBody())
        await trio.sleep(120)
    firsts = [one[0] - began for one in times.values()]
    assert 0 < min(firsts) < max(firsts) < 1
    seconds = [one[1] - one[0] for one in times.values()]
    assert 4.5 <= min(seconds) < max(seconds) <= 5.5, "one result: the verdict is in doubt"
    later = [after - before for one in times.values() for before, after in pairwise(one[1:])]
    assert 27 <= min(later) < 28, "30 s - 10 %"
    assert 32 < max(later) <= 33, "30 s + 10 %"
    assert len({round(one, 3) for one in firsts}) > 150, "they are spread"


async def test_at_most_so_many_probes_run_and_never_two_of_one_instance(autojump_clock):
    running, told, most = [], [], 0

    async def probe(said, _check):
        nonlocal most
        assert said.id not in running
        running.append(said.id)
        most = max(most, len(running))
        await trio.sleep(3)
        running.remove(said.id)
        return PASS

    async with open_inline_store() as store, open_rig(store, TrioClock(), probe, max_in_flight=4) as rig:
        for number in range(20):
            instance = await rig.register(str(number), check=CHECK)
        await trio.sleep(2)
        for _ in range(3):
            rig.prober.probe_now(instance, told.append)
        assert (rig.prober.in_flight, rig.prober.waiting) == (4, 16)
        assert 1 < rig.prober.late_by < 2
        await trio.sleep(60)
        assert most == 4
        assert told == [True] * 3, "all who ask meanwhile share one probe"
        assert rig.statuses() == {"healthy"}


@pytest.mark.parametrize("shielded", [True, False])
async def test_a_probe_under_way_while_the_id_is_registered_anew_changes_nothing(autojump_clock, shielded):
    probe = Held(shielded=shielded)
    async with open_inline_store() as store, open_rig(store, TrioClock(), probe) as rig:
        await rig.register("a", check=CHECK)
        await trio.sleep(1)
        await rig.registry.deregister("a")
        await rig.register("a", port=81, check=CHECK)
        [(first, done)] = probe.calls
        assert first.port == 80
        done.set()
        await trio.sleep(1)
        assert rig.status("a") == "unknown"
        assert [said.port for said, _ in probe.calls] == [80, 81], "and the new one is probed"
        assert probe.cancelled == (not shielded)
        probe.calls[1][1].set()
        await trio.sleep(0.1)
        assert rig.status("a") == "unhealthy"


async def test_a_late_probe_or_heartbeat_does_not_bring_back_what_was_deregistered(autojump_clock):
    probe = Held(shielded=True)
    async with open_inline_store() as store:
        async with open_rig(store, TrioClock(), probe) as rig:
            await rig.register("a", check=CHECK, ttl_ms=5000)
            await rig.register("b", ttl_ms=60_000)
            await trio.sleep(1)
            await rig.registry.deregister("a")
            probe.calls[0][1].set()
            with pytest.raises(NotFoundError):
                rig.registry.renew("a")
            await trio.sleep(30)
            assert rig.ids() == ["b"]
            assert rig.status("b") == "healthy"
            with pytest.raises(NotFoundError):
                await rig.registry.deregister("a")
        async with open_rig(store, TrioClock()) as rig:
            assert rig.ids() == ["b"]
    assert len(probe.calls) == 1


async def test_a_verdict_that_is_being_written_while_its_instance_goes_is_nobodys(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        first = await rig.register("a", check=CHECK)
        await rig.registry.deregister("a")
        again = await rig.register("a", check=CHECK)
        rig.registry.settler.want("a", first.generation, verdict=Verdict.UNHEALTHY, reason="late")
        rig.registry.settler.want_removed("a", first.generation, "late")
        await trio.sleep(2)
        assert rig.registry.get("a").generation == again.generation
        assert rig.status("a") == "healthy"
        assert await rig.events("service.status_changed") == ["service.status_changed"], "unknown to healthy"


async def test_one_that_says_it_is_overloaded_stays_healthy_and_the_reason_says_so(autojump_clock):
    results = [PASS, WARNING, WARNING, PASS, PASS]

    async def probe(_said, _check):
        await trio.lowlevel.checkpoint()
        reasons.append((rig.status("a"), rig.registry.get("a").reason))
        return results.pop(0) if results else PASS

    reasons = []
    async with open_inline_store() as store, open_rig(store, TrioClock(), probe) as rig:
        await rig.register("a", check=CHECK)
        await trio.sleep(8)
        assert await rig.events("service.status_changed") == ["service.status_changed"]
    assert [reason for _, reason in reasons[1:6]] == [
        "the first probe passed: HTTP 200",
        *["it passes, with a warning: HTTP 429 'too many'"] * 3,
        "2 passes in a row: HTTP 200",
    ]
    assert {status for status, _ in reasons[1:]} == {"healthy"}


async def test_a_bug_in_one_probe_ends_neither_the_others_nor_its_own_next(autojump_clock, caplog):
    broken = True

    async def probe(said, _check):
        await trio.lowlevel.checkpoint()
        if said.id == "bad" and broken:
            raise ZeroDivisionError
        return PASS

    async with open_inline_store() as store, open_rig(store, TrioClock(), probe) as rig:
        await rig.register("bad", check=CHECK)
        await rig.register("good", check=CHECK)
        await trio.sleep(5)
        assert (rig.status("bad"), rig.status("good")) == ("unknown", "healthy")
        broken = False
        await trio.sleep(6)
        assert rig.statuses() == {"healthy"}
    assert "a probe failed" in caplog.text


async def test_draining_ends_the_probes_and_nothing_but_them(autojump_clock):
    probe, reached = Held(shielded=False), False
    async with open_inline_store() as store, open_rig(store, TrioClock(), probe) as rig:
        await rig.register("a", check=CHECK)
        await rig.register("b", check=CHECK)
        await trio.sleep(1)
        assert rig.prober.in_flight == 2
        rig.prober.probe_now(await rig.register("c", ttl_ms=60_000), pytest.fail)
        rig.prober.drain()  # before the probe of c, for which there was room, has begun
        await trio.sleep(20)
        assert probe.cancelled == len(probe.calls) == 2
        assert rig.statuses() == {"unknown", "healthy"}
        await rig.register("d", check=CHECK)
        await trio.sleep(10)
        assert len(probe.calls) == 2
        reached = True
    assert reached, "what goes on inside was not cancelled"


async def test_verdicts_outlive_a_restart_and_the_probes_are_spread_over_their_intervals(autojump_clock):
    times = []

    async def probe(_said, _check):
        times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        return PASS

    clock = TrioClock()
    async with open_inline_store() as store:
        async with open_rig(store, clock) as rig:
            for number in range(100):
                await rig.register(str(number), check=CheckBody())
            await trio.sleep(10)
        async with open_rig(store, clock, probe) as rig:
            began = trio.current_time()
            assert rig.statuses() == {"healthy"}
            await trio.sleep(31)
    per_third = [sum(10 * n <= one - began < 10 * (n + 1) for one in times) for n in range(3)]
    assert min(per_third) > 20
