"""One test for each defect that circuit breakers, retries and time-outs of others are known for, named after it.

Each goes through the whole mesh. What of it can be said of one primitive or of one pure value alone is tested there
too: `test_circuit_breaker`, `test_resilience_breaker`, `test_resilience_retry`. Those of the choice of an instance
stand in `test_mesh_balance`, of cancellations in `test_mesh_cancellations`, of bodies in `test_mesh_bodies`.
"""

import time
from collections import Counter
from contextlib import suppress

import pytest
import trio

from econeura_daemon.client import CircuitOpenError, MeshError, UpstreamTimeoutError
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from tests.support.mesh_rig import (
    answers,
    hang,
    instance,
    refused,
    reset,
    slow,
    well,
    world,
)

ONE_TRY = MeshSettings(retries=0)


async def half_open(mesh):
    """Let the breaker of the instance open, and wait until it tries again."""
    mesh.behaviours["a"] = refused
    for _ in range(5):
        with suppress(MeshError):
            await mesh.call()
    breaker = mesh.service.states["a"].breaker
    assert breaker.state is State.OPEN
    await trio.sleep(66)
    assert breaker.state is State.HALF_OPEN
    mesh.asked.clear()
    return breaker


async def test_100_concurrent_calls_in_half_open_admit_exactly_3(autojump_clock):
    mesh = world("a", settings=ONE_TRY)
    breaker = await half_open(mesh)
    mesh.behaviours["a"] = slow(1)
    results = Counter()

    async def call():
        try:
            await mesh.call()
            results["answered"] += 1
        except CircuitOpenError:
            results["refused"] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(call)
    assert results == {"answered": 3, "refused": 97}
    assert (breaker.state, len(mesh.asked)) == (State.CLOSED, 3)
    mesh.assert_all_is_back()


async def test_a_cancelled_trial_does_not_wedge_it(autojump_clock):
    mesh = world("a", settings=ONE_TRY)
    breaker = await half_open(mesh)
    mesh.behaviours["a"] = hang
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(mesh.call)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(CircuitOpenError, match="trials are under way"):
            await mesh.call()
        nursery.cancel_scope.cancel()
    mesh.behaviours["a"] = well
    for _ in range(3):
        assert await mesh.call() == (200, b"ok")
    assert breaker.state is State.CLOSED
    mesh.assert_all_is_back()


async def test_a_late_success_of_an_older_generation_does_not_close_it(autojump_clock):
    mesh = world("a", settings=MeshSettings(circuit_breaker_open_ms=5000, retries=0))
    mesh.behaviours["a"] = slow(20)
    late = []

    async def call():
        late.append(await mesh.call("POST"))

    async with trio.open_nursery() as nursery:
        for _ in range(3):  # as many successes as would close it
            nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        mesh.behaviours["a"] = refused
        for _ in range(5):
            with suppress(MeshError):
                await mesh.call()
        await trio.sleep(6)
        breaker = mesh.service.states["a"].breaker
        assert breaker.state is State.HALF_OPEN
    assert late == [(200, b"ok")] * 3
    assert (breaker.state, breaker.statistics().successes) == (State.HALF_OPEN, 0)
    mesh.assert_all_is_back()


async def test_a_late_failure_of_an_older_generation_does_not_open_it(autojump_clock):
    mesh = world(
        "a", settings=MeshSettings(circuit_breaker_open_ms=5000, circuit_breaker_threshold=3, retries=0)
    )
    mesh.behaviours["a"] = slow(20, 503)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(mesh.call, "POST")
        await trio.testing.wait_all_tasks_blocked()
        mesh.behaviours["a"] = refused
        for _ in range(3):
            with suppress(MeshError):
                await mesh.call()
        await trio.sleep(6)
        mesh.behaviours["a"] = well
        for _ in range(3):
            await mesh.call()
    assert trio.current_time() == 20
    assert mesh.service.states["a"].breaker.state is State.CLOSED
    mesh.assert_all_is_back()


async def test_1000_answers_of_404_leave_it_closed(autojump_clock):
    mesh = world("a", behaviours={"a": answers(404)})
    for _ in range(1000):
        assert await mesh.call() == (404, b"ok")
    for breaker in (mesh.service.states["a"].breaker, mesh.service.breaker):
        assert breaker.statistics().reason == "it never opened"
        assert breaker.statistics().failures == 0
    assert mesh.service.totals.failures == 0


async def test_our_own_timeout_counts_the_callers_does_not(autojump_clock):
    mesh = world("a", behaviours={"a": hang}, settings=ONE_TRY)
    for _ in range(50):
        with pytest.raises(UpstreamTimeoutError):
            await mesh.call("POST", timeout=1)
    state = mesh.service.states["a"]
    assert (state.breaker.state, mesh.service.breaker.statistics().failures) == (State.CLOSED, 0)
    for _ in range(5):
        with pytest.raises(UpstreamTimeoutError):
            await mesh.call("POST")
    assert state.breaker.state is State.OPEN
    assert "did not answer within 30000 ms" in state.breaker.statistics().reason
    assert mesh.service.breaker.statistics().failures == 1  # of the last ten seconds
    mesh.assert_all_is_back()


async def test_an_hour_of_wall_clock_either_way_changes_nothing(monkeypatch, autojump_clock):
    real, steps = time.time, {}

    async def history(step):
        """Return what becomes of calls for some minutes: breakers, retries, ejections, a wait that was asked for."""
        settings = MeshSettings(balancer="round_robin", circuit_breaker_threshold=3)
        mesh = world("a", "b", "c", "d", settings=settings)
        mesh.behaviours["a"] = refused
        turns = iter(range(10_000))

        async def fails_often(call):
            return await (answers(500) if next(turns) % 2 else well)(call)

        mesh.behaviours["b"] = fails_often
        mesh.behaviours["c"] = answers(429, headers=[(b"Retry-After", b"2")])
        begun, seen = trio.current_time(), []
        for n in range(300):
            if n == 100:
                monkeypatch.setattr(time, "time", lambda: real() + step)
                monkeypatch.setattr(time, "time_ns", lambda: int((real() + step) * 1e9))
            with suppress(MeshError):
                seen.append((await mesh.call())[0])
            seen.append((round(trio.current_time() - begun, 6), mesh.asked[-1]))
            await trio.sleep(0.5)
        steps[step] = seen
        assert {"a", "b", "c", "d"} == set(mesh.asked)

    for step in (0, 3600, -3600):
        await history(step)
    assert steps[3600] == steps[-3600] == steps[0]


@pytest.mark.parametrize("trouble", [hang, reset, refused, answers(503), answers(429), slow(9, 503)])
@pytest.mark.parametrize("timeout", [None, 0.5, 7, 25])
async def test_retries_never_exceed_the_total_deadline(trouble, timeout, autojump_clock):
    patient = MeshSettings(retries=10, circuit_breaker_threshold=1000)
    mesh = world("a", "b", behaviours={"a": trouble, "b": trouble}, settings=patient)
    with suppress(MeshError):
        await mesh.call(timeout=timeout)
    assert trio.current_time() <= (timeout or 30) + 0.001
    mesh.assert_all_is_back()


@pytest.mark.parametrize("asked", [b"30", b"31", b"86400", b"99999999999"])
async def test_a_retry_after_beyond_the_deadline_fails_at_once(asked, autojump_clock):
    mesh = world("a", "b", behaviours=dict.fromkeys("ab", answers(503, headers=[(b"Retry-After", asked)])))
    assert (await mesh.call())[0] == 503
    assert (len(mesh.asked), trio.current_time()) == (1, 0)


async def test_the_streams_of_a_drained_instance_end_at_their_own_pace(autojump_clock):
    mesh = world("a", "b", behaviours=dict.fromkeys("ab", answers(200, parts=[b"x", *[29.0, b"y"] * 10])))
    streams = [await mesh.begin() for _ in range(20)]
    mesh.instances = (instance("a", draining=True), instance("b"))
    ended = Counter()

    async def read_on(answer):
        while await answer.more():
            pass
        ended[answer.service_id, trio.current_time()] += 1

    async with trio.open_nursery() as nursery:
        for answer in streams:
            nursery.start_soon(read_on, answer)
        await trio.sleep(1)
        mesh.asked.clear()
        mesh.behaviours["b"] = well
        for _ in range(20):
            await mesh.call()
        assert mesh.asked == ["b"] * 20
        await trio.sleep(100)
        mesh.instances = (instance("b"),)  # the drain is over, says its registrant
        assert set(mesh.service.states) == {"b"}
    assert set(ended) == {("a", 290), ("b", 290)}
    assert sum(ended.values()) == 20
    mesh.assert_all_is_back()
