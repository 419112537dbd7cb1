"""Supervision under a clock that jumps: a loop is a list of the seconds that it lives before it fails."""

import logging
from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from econeura_daemon.supervision.supervise import (
    MAX_RESTARTS,
    WITHIN,
    LoopFailedError,
    RestartBudget,
    Supervised,
    supervise,
)


class Fragile:
    """A loop that fails after each of ``lives`` seconds, then runs until cancelled."""

    def __init__(self, *lives, error=lambda: ValueError("a bug")):
        self.lives = list(lives)
        self.error = error
        self.starts = []
        self.failures = []

    async def __call__(self, *, task_status):
        self.starts.append(trio.current_time())
        task_status.started(len(self.starts))
        if not self.lives:
            await trio.sleep_forever()
        await trio.sleep(self.lives.pop(0))
        self.failures.append(trio.current_time())
        raise self.error()


def supervised(run, **kwargs):
    return Supervised("dispatcher", run, rng=Random(1), **kwargs)


async def test_a_bug_restarts_the_loop_after_a_short_pause(autojump_clock):
    loop = Fragile(10)
    with trio.move_on_after(60):
        await supervise("dispatcher", loop, rng=Random(1))
    assert len(loop.starts) == 2
    assert 0.125 <= loop.starts[1] - loop.failures[0] <= 0.25


async def test_pauses_grow_and_have_jitter(autojump_clock):
    loop = Fragile(*[0] * 5)
    with trio.move_on_after(300):
        await supervise("dispatcher", loop, rng=Random(1))
    pauses = [start - failure for start, failure in zip(loop.starts[1:], loop.failures, strict=True)]
    for pause, most in zip(pauses, [0.25, 0.75, 2.25, 6.75, 20], strict=True):
        assert most / 2 <= pause <= most
    assert pauses != [0.25, 0.75, 2.25, 6.75, 20]


async def test_the_sixth_failure_within_a_minute_ends_it_with_the_bug_as_its_cause(autojump_clock):
    loop = Fragile(*[1] * 100)
    watched = supervised(loop)
    with pytest.raises(
        LoopFailedError, match="dispatcher failed 6 times within 60 s: ValueError: a bug"
    ) as failed:
        await watched.run()
    assert isinstance(failed.value.__cause__, ValueError)
    assert len(loop.starts) == 6
    assert watched.state == "failed"
    assert watched.health().status == "unhealthy"


async def test_failures_far_apart_never_end_it(autojump_clock):
    loop = Fragile(*[30] * 100)
    with trio.move_on_after(100 * 31):
        await supervise("dispatcher", loop, rng=Random(1))
    assert len(loop.failures) == 100


async def test_a_loop_that_returns_has_ended_and_is_not_restarted(autojump_clock):
    async def run(*, task_status):
        task_status.started()

    watched = supervised(run)
    await watched.run()
    assert watched.state == "ended"
    assert watched.health().status == "unhealthy"


async def test_started_is_passed_on_once_with_its_value(autojump_clock):
    loop = Fragile(1, 1)
    watched = supervised(loop)
    async with trio.open_nursery() as nursery:
        assert await nursery.start(watched.run) == 1
        await trio.sleep(10)
        assert len(loop.starts) == 3
        nursery.cancel_scope.cancel()


async def test_a_loop_that_fails_before_it_has_started_is_restarted_and_its_starter_waits(autojump_clock):
    tries = []

    async def run(*, task_status):
        tries.append(trio.current_time())
        if len(tries) < 3:
            raise OSError("no database yet")
        task_status.started()
        await trio.sleep_forever()

    watched = supervised(run)
    async with trio.open_nursery() as nursery:
        await nursery.start(watched.run)
        assert (len(tries), watched.restarts, watched.state) == (3, 2, "running")
        nursery.cancel_scope.cancel()


async def test_a_loop_that_never_starts_tells_its_starter_why(autojump_clock):
    async def run(*, task_status):
        raise OSError("no database")

    with pytest.RaisesGroup(LoopFailedError, allow_unwrapped=False):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervised(run).run)


async def test_cancellation_passes_and_restarts_nothing(autojump_clock):
    loop = Fragile()
    watched = supervised(loop)
    with trio.move_on_after(5) as scope:
        await watched.run()
    assert scope.cancelled_caught
    assert (len(loop.starts), watched.restarts) == (1, 0)


async def test_cancellation_ends_a_pause_too(autojump_clock):
    loop = Fragile(0, 0, 0, 0, 0)
    with trio.move_on_after(12) as scope:
        await supervise("dispatcher", loop, rng=Random(1))
    assert scope.cancelled_caught
    assert trio.current_time() == 12


async def test_a_bug_on_the_way_out_of_a_cancelled_loop_is_logged_and_the_cancellation_passes(
    autojump_clock, caplog
):
    async def run(*, task_status):
        async def leave_badly():
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("while leaving")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_badly)
            nursery.start_soon(trio.sleep_forever)
            task_status.started()

    watched = supervised(run)
    with trio.move_on_after(5) as scope:
        await watched.run()
    assert scope.cancelled_caught
    assert "while leaving" in caplog.text
    assert trio.current_time() == 5


async def test_bugs_of_several_tasks_of_one_loop_are_one_failure_that_tells_them_all(autojump_clock, caplog):
    async def run(*, task_status):
        task_status.started()
        if runs.append(1) or len(runs) > 1:
            await trio.sleep_forever()
        barrier = trio.Event()

        async def fail(error):
            with trio.CancelScope(shield=True):
                await barrier.wait()
            raise error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, ValueError("first"))
            nursery.start_soon(fail, KeyError("second"))
            await trio.sleep(1)
            barrier.set()

    runs = []
    watched = supervised(run)
    with trio.move_on_after(10):
        await watched.run()
    assert watched.restarts == 1
    assert "first" in caplog.text
    assert "second" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_what_is_no_bug_passes(autojump_clock, error):
    with pytest.RaisesGroup(error, allow_unwrapped=True):
        await supervised(Fragile(1, error=error)).run()


async def test_each_failure_is_logged_with_its_traceback_and_counted(autojump_clock, caplog):
    counted = []
    loop = Fragile(1)
    with trio.move_on_after(10):
        await supervised(loop, on_restart=counted.append).run()
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("loop dispatcher failed, restarting in 0.")
    assert isinstance(record.exc_info[1], ValueError)
    assert record.exc_info[1].__traceback__ is not None
    assert counted == ["dispatcher"]


async def test_health_tells_running_restarting_since_and_the_last_bug(autojump_clock):
    loop = Fragile(10, 0, 0, 0, 0)
    watched = supervised(loop)
    assert watched.health().status == "degraded"
    async with trio.open_nursery() as nursery:
        await nursery.start(watched.run)
        assert (watched.health().status, watched.health().detail) == ("healthy", "running")
        await trio.sleep(10.01)
        assert watched.health().status == "degraded"
        assert watched.health().detail == "restarting for 0 s after: ValueError: a bug"
        await trio.sleep(40)
        assert watched.health().status == "healthy"
        assert watched.health().detail == "running, restarted 5 times, last after: ValueError: a bug"
        nursery.cancel_scope.cancel()


async def test_one_loops_bug_does_not_touch_another(autojump_clock):
    fragile, sound = Fragile(1), Fragile()
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervised(fragile).run)
            await nursery.start(supervised(sound).run)
    assert (len(fragile.starts), len(sound.starts)) == (2, 1)


# Whatever the pattern of crashes.

lives = st.lists(st.floats(0, 200) | st.sampled_from([0.0, 12.0, WITHIN]), max_size=40)


@given(lives, st.integers(0, 8), st.integers())
def test_it_gives_up_when_and_only_when_the_limit_is_reached_within_the_window(pattern, max_restarts, seed):
    loop = Fragile(*pattern)

    async def main():
        with trio.move_on_after(10_000_000) as scope:
            await supervise("dispatcher", loop, rng=Random(seed), max_restarts=max_restarts)
        return scope.cancelled_caught

    try:
        survived = trio.run(main, clock=MockClock(autojump_threshold=0))
    except LoopFailedError:
        survived = False

    def restarts_before(failure):
        return [earlier for earlier in loop.failures if failure - WITHIN < earlier < failure]

    failures = sorted(set(loop.failures))
    limits = [len(restarts_before(failure)) >= max_restarts for failure in failures]
    assert survived == (not any(limits))
    if not survived:
        assert limits.index(True) == len(failures) - 1


@given(st.lists(st.floats(0, 100)), st.integers(0, 8), st.integers())
def test_a_budget_never_grants_more_than_the_limit_in_any_window(gaps, max_restarts, seed):
    budget, now, granted, rng = RestartBudget(max_restarts), 0.0, [], Random(seed)
    for gap in gaps:
        now += gap
        pause, budget = budget.crash(now, rng)
        if pause is not None:
            assert 0.125 <= pause <= 20
            granted.append(now)
        assert len([instant for instant in granted if now - WITHIN < instant]) <= max_restarts
        assert len(budget.crashes) <= max_restarts


def test_the_pauses_of_a_minute_leave_a_database_half_of_it_to_come_back():
    budget, pauses, rng = RestartBudget(), [], Random(1)
    for _ in range(MAX_RESTARTS):
        pause, budget = budget.crash(sum(pauses), rng)
        pauses.append(pause)
    assert budget.crash(sum(pauses), rng)[0] is None
    assert 15 <= sum(pauses) <= 30
