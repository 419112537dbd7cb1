"""The breaker as a Trio primitive: one test a defect that other implementations are known for."""

import time
from collections import Counter
from random import Random

import attrs
import httpx
import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from econeura_daemon.primitives import (
    BreakerOpenError,
    BreakerPolicy,
    Bulkhead,
    CircuitBreaker,
    QueueFullError,
    State,
    Verdict,
    verdict_of_status,
)

STEADY = BreakerPolicy(jitter=0.0, ramp=0.0)


class DownError(Exception):
    """Whoever is called is down."""


async def fail(breaker, times=1):
    for _ in range(times):
        with pytest.raises(DownError):
            async with breaker:
                raise DownError("refused")


async def succeed(breaker, times=1):
    for _ in range(times):
        async with breaker:
            pass


async def half_open(**how):
    breaker = CircuitBreaker(STEADY, **how)
    await fail(breaker, 5)
    await trio.sleep(60)
    assert breaker.state is State.HALF_OPEN
    return breaker


async def test_an_open_breaker_refuses_at_once_and_says_why_and_until_when(autojump_clock):
    breaker = CircuitBreaker(STEADY, name="workers at 10.0.0.7")
    await fail(breaker, 5)
    until = trio.current_time() + 60
    with pytest.raises(BreakerOpenError) as refused:
        async with breaker:
            raise AssertionError("it let the call through")
    assert refused.value.until == until
    assert refused.value.reason == "5 failures in a row, the last: DownError: refused"
    assert str(refused.value) == f"workers at 10.0.0.7 is open: {refused.value.reason}"
    assert breaker.refusal().until == until
    await trio.sleep_until(refused.value.until)
    await succeed(breaker, 3)
    assert breaker.state is State.CLOSED


async def test_100_concurrent_calls_in_half_open_admit_exactly_3(autojump_clock):
    breaker, outcomes = await half_open(), Counter()

    async def call():
        try:
            async with breaker:
                await trio.sleep(1)
        except BreakerOpenError:
            outcomes["refused"] += 1
        else:
            outcomes["admitted"] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(call)
    assert outcomes == {"admitted": 3, "refused": 97}
    assert breaker.state is State.CLOSED


async def test_a_cancelled_trial_does_not_wedge_it(autojump_clock):
    breaker = await half_open()
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(hang, breaker)
            await wait_all_tasks_blocked()
            with pytest.raises(BreakerOpenError):
                breaker.acquire_nowait()
            nursery.cancel_scope.cancel()
        assert (breaker.statistics().trials, breaker.statistics().in_flight) == (0, 0)
    await succeed(breaker, 3)
    assert breaker.state is State.CLOSED


async def hang(breaker):
    async with breaker:
        await trio.sleep_forever()


async def test_a_late_success_of_an_older_generation_does_not_close_it(autojump_clock):
    breaker, late = CircuitBreaker(STEADY), trio.Event()

    async def slow():
        async with breaker:
            await late.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(slow)
        await wait_all_tasks_blocked()
        await fail(breaker, 5)
        await trio.sleep(60)
        assert breaker.state is State.HALF_OPEN
        late.set()
    assert breaker.state is State.HALF_OPEN
    assert breaker.statistics().successes == 0


async def test_a_lost_trial_does_not_wedge_it(autojump_clock):
    """Somebody acquires, and never comes back."""
    breaker = await half_open()
    for n in range(3):
        breaker.acquire_on_behalf_of_nowait(n)
    await trio.sleep(29.9)
    assert breaker.state is State.HALF_OPEN
    await trio.sleep(0.2)
    assert breaker.statistics().reason == "trials brought no verdict within 30 s"
    await trio.sleep(120)
    await succeed(breaker, 3)
    breaker.release_on_behalf_of(0, Verdict.FAILURE)
    assert breaker.state is State.CLOSED


async def test_1000_answers_of_404_leave_it_closed(autojump_clock):
    breaker = CircuitBreaker()
    transport = httpx.MockTransport(lambda _request: httpx.Response(404))
    async with httpx.AsyncClient(transport=transport, base_url="http://workers") as client:
        for _ in range(1000):
            async with breaker as call:
                response = await client.get("/nothing")
                call.report(verdict_of_status(response.status_code), f"answered {response.status_code}")
    assert breaker.state is State.CLOSED
    assert breaker.statistics().calls == 0


async def test_answers_that_are_reported_as_failures_open_it(autojump_clock):
    breaker = CircuitBreaker(STEADY)
    for _ in range(5):
        async with breaker as call:
            call.report(verdict_of_status(503), "answered 503")
    assert breaker.statistics().reason == "5 failures in a row, the last: answered 503"


async def test_50_cancels_leave_it_closed_and_every_counter_at_0(autojump_clock):
    breaker = CircuitBreaker(STEADY)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(hang, breaker)
        await wait_all_tasks_blocked()
        assert breaker.statistics().in_flight == 50
        nursery.cancel_scope.cancel()
    found = breaker.statistics()
    assert found.state is State.CLOSED
    assert (found.in_flight, found.trials, found.calls, found.failures, found.failures_in_a_row) == (0,) * 5


async def time_out(breaker):
    async with breaker:
        with trio.fail_after(1):
            await trio.sleep_forever()


async def test_our_own_timeout_counts_the_callers_does_not(autojump_clock):
    breaker = CircuitBreaker(STEADY)
    for _ in range(5):
        with trio.move_on_after(1):
            async with breaker:
                await trio.sleep_forever()
    assert breaker.statistics().failures_in_a_row == 0
    for _ in range(5):
        with pytest.raises(trio.TooSlowError):
            await time_out(breaker)
    assert breaker.state is State.OPEN
    assert breaker.statistics().reason == "5 failures in a row, the last: TooSlowError"


async def test_one_hour_of_wall_clock_either_way_changes_nothing(autojump_clock, monkeypatch):
    real = time.time
    breaker = CircuitBreaker(STEADY)
    await fail(breaker, 5)
    for step in (3600, -3600):
        monkeypatch.setattr(time, "time", lambda step=step: real() + step)
        assert breaker.state is State.OPEN
    await trio.sleep(59.9)
    assert breaker.state is State.OPEN
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    await trio.sleep(0.1)
    assert breaker.state is State.HALF_OPEN


async def test_failures_in_a_nursery_count_once_and_its_cancellations_not(autojump_clock):
    breaker = CircuitBreaker(STEADY)

    async def down():
        raise DownError

    async def work():
        async with breaker, trio.open_nursery() as nursery:
            nursery.start_soon(down)
            nursery.start_soon(trio.sleep_forever)

    with pytest.raises(ExceptionGroup):
        await work()
    assert breaker.statistics().failures == 1
    with trio.move_on_after(1):
        async with breaker, trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert breaker.statistics().calls == 1


async def test_a_refusal_of_something_further_in_is_no_failure(autojump_clock):
    breaker, full = CircuitBreaker(STEADY), Bulkhead(1, max_waiting=0)
    full.acquire_on_behalf_of_nowait("somebody")
    for _ in range(9):
        with pytest.raises(QueueFullError):
            async with breaker, full:
                pass
    assert breaker.statistics().calls == 0


async def test_acquire_is_a_checkpoint_whether_it_admits_or_refuses(autojump_clock):
    breaker = CircuitBreaker(STEADY)
    with assert_checkpoints():
        await breaker.acquire()
    breaker.release(Verdict.FAILURE)
    with assert_checkpoints():
        async with breaker:
            pass
    await fail(breaker, 5)
    with assert_checkpoints(), pytest.raises(BreakerOpenError):
        await breaker.acquire()


async def test_a_cancelled_acquire_admits_nobody(autojump_clock):
    breaker = await half_open()
    with trio.CancelScope() as scope:
        scope.cancel()
        await breaker.acquire()
    assert scope.cancelled_caught
    assert (breaker.statistics().trials, breaker.statistics().in_flight) == (0, 0)


async def test_a_task_has_one_call_at_a_time_and_releases_only_its_own(autojump_clock):
    breaker = CircuitBreaker()
    breaker.acquire_nowait()
    with pytest.raises(RuntimeError, match="under way through this breaker already"):
        breaker.acquire_nowait()
    breaker.release()
    with pytest.raises(RuntimeError, match="no call under way"):
        breaker.release()
    call = await breaker.acquire_on_behalf_of("a stream")
    call.report(Verdict.FAILURE, "reset")
    breaker.release_on_behalf_of("a stream")
    assert breaker.statistics().failures == 1


async def test_a_judge_that_raises_gives_the_permit_back(autojump_clock):
    def confused(error):
        raise ValueError(f"what is {error!r}?")

    breaker = CircuitBreaker(STEADY, judge=confused)
    with pytest.raises(ValueError, match="what is"):
        async with breaker:
            raise DownError
    assert breaker.statistics().in_flight == 0


async def test_changes_are_told_as_they_happen(autojump_clock):
    told = []
    breaker = await half_open(on_change=told.append)
    await succeed(breaker, 3)
    assert [phase.state for phase in told] == [State.OPEN, State.HALF_OPEN, State.CLOSED]
    assert told[0].until == told[1].since


async def test_an_opening_can_be_cut_short(autojump_clock):
    breaker = CircuitBreaker(STEADY)
    await fail(breaker, 5)
    breaker.hasten(trio.current_time() + 5)
    await trio.sleep(4.9)
    assert breaker.state is State.OPEN
    await trio.sleep(0.2)
    assert breaker.state is State.HALF_OPEN


async def test_two_breakers_do_not_open_for_equally_long(autojump_clock):
    ends = set()
    for seed in range(9):
        breaker = CircuitBreaker(rng=Random(seed))
        await fail(breaker, 5)
        ends.add(round(breaker.statistics().until - trio.current_time(), 3))
    assert len(ends) == 9
    assert all(54 <= end <= 66 for end in ends)


async def test_after_closing_it_comes_back_slowly(autojump_clock):
    breaker = CircuitBreaker(attrs.evolve(STEADY, ramp=10.0), rng=Random(1))
    await fail(breaker, 5)
    await trio.sleep(60)
    await succeed(breaker, 3)
    refused = []
    for _ in range(100):
        try:
            await succeed(breaker)
        except BreakerOpenError as error:
            refused.append(error.until)
    assert 75 <= len(refused) <= 99
    assert set(refused) == {breaker.statistics().until}
    await trio.sleep(10)
    await succeed(breaker, 100)
    assert breaker.statistics().openings == 0


async def test_its_repr_tells_its_state(autojump_clock):
    breaker = CircuitBreaker(STEADY)
    assert "closed (it never opened), 0 in flight" in repr(breaker)
    await fail(breaker, 5)
    assert "open (5 failures in a row, the last: DownError: refused), 0 in flight" in repr(breaker)
