"""Bulkhead and adaptive limiter: fair, bounded, and nothing leaks however callers go away."""

import math

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from econeura_daemon.primitives import (
    AdaptiveLimiter,
    AdaptivePolicy,
    Bulkhead,
    LimitReachedError,
    QueueFullError,
    Sample,
)


def limiter_of(limit, max_waiting=100):
    return AdaptiveLimiter(AdaptivePolicy(initial=limit), max_waiting=max_waiting)


def steady_limiter_of(limit, max_waiting=100):
    """Return one whose limit does not grow, for what it has in common with a bulkhead."""
    return AdaptiveLimiter(AdaptivePolicy(initial=limit, maximum=limit), max_waiting=max_waiting)


BOTH = pytest.mark.parametrize("make", [Bulkhead, steady_limiter_of])


async def line_up(nursery, slots, count):
    """Let 0, 1, 2 and so on come, in this order: of tasks that start at once Trio shuffles some."""
    for n in range(count):
        nursery.start_soon(slots.acquire_on_behalf_of, n)
        await wait_all_tasks_blocked()


@BOTH
async def test_as_many_as_the_limit_are_in_and_come_in_the_order_in_which_they_came(make, autojump_clock):
    slots, order, most = make(3), [], 0

    async def work(n):
        nonlocal most
        async with slots:
            order.append(n)
            most = max(most, slots.borrowed)
            await trio.sleep(1 + n / 100)  # not all at once: of tasks that wake together Trio shuffles some

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(work, n)
            await wait_all_tasks_blocked()
    assert order == list(range(20))
    assert most == 3
    assert (slots.borrowed, slots.tasks_waiting) == (0, 0)


@BOTH
async def test_who_comes_while_others_wait_does_not_overtake_them(make, autojump_clock):
    slots, got = make(1), []
    slots.acquire_nowait()

    async def wait():
        async with slots:
            got.append("the one that waited")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        slots.release()
        with pytest.raises(LimitReachedError):  # handed over already, though nobody ran in between
            slots.acquire_nowait()
    assert got == ["the one that waited"]


@BOTH
async def test_the_queue_is_bounded_and_who_is_refused_is_told_why(make, autojump_clock):
    slots = make(2, max_waiting=3)
    async with trio.open_nursery() as nursery:
        for n in range(2):
            slots.acquire_on_behalf_of_nowait(n)
        for n in range(2, 5):
            nursery.start_soon(slots.acquire_on_behalf_of, n)
        await wait_all_tasks_blocked()
        with assert_checkpoints(), pytest.raises(QueueFullError) as refused:
            await slots.acquire()
        assert refused.value.reason == "all of 2 slots are taken and 3 callers wait"
        with pytest.raises(trio.WouldBlock):
            slots.acquire_nowait()
        assert slots.statistics().tasks_waiting == 3
        nursery.cancel_scope.cancel()


@BOTH
async def test_a_caller_past_its_deadline_leaves_the_queue(make, autojump_clock):
    slots = make(1)
    slots.acquire_on_behalf_of_nowait("slow")
    with trio.move_on_after(5) as scope:
        await slots.acquire()
    assert scope.cancelled_caught
    assert trio.current_time() == scope.deadline
    assert slots.tasks_waiting == 0
    slots.release_on_behalf_of("slow")
    slots.acquire_nowait()


@BOTH
async def test_a_slot_that_is_handed_to_somebody_who_is_being_cancelled_is_not_lost(make, autojump_clock):
    slots = make(1)
    slots.acquire_nowait()

    async def wait():
        async with slots:
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        slots.release()
        nursery.cancel_scope.cancel()
    assert (slots.borrowed, slots.tasks_waiting) == (0, 0)
    slots.acquire_nowait()


@BOTH
async def test_acquire_is_a_checkpoint_and_a_cancelled_one_takes_nothing(make, autojump_clock):
    slots = make(1)
    with assert_checkpoints():
        await slots.acquire()
    slots.release()
    with assert_checkpoints():
        async with slots:
            pass
    with trio.CancelScope() as scope:
        scope.cancel()
        await slots.acquire()
    assert scope.cancelled_caught
    assert slots.borrowed == 0


@BOTH
async def test_a_borrower_holds_one_slot_waits_once_and_gives_back_only_its_own(make, autojump_clock):
    slots = make(2)
    slots.acquire_nowait()
    with pytest.raises(RuntimeError, match="holds a slot already"):
        await slots.acquire()
    slots.release()
    with pytest.raises(RuntimeError, match="holds no slot"):
        slots.release()
    for n in range(2):
        slots.acquire_on_behalf_of_nowait(n)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slots.acquire_on_behalf_of, "twice")
        await wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="waits for a slot already"):
            await slots.acquire_on_behalf_of("twice")
        slots.release_on_behalf_of(0)
    assert slots.statistics().borrowers in {(1, "twice"), ("twice", 1)}


async def test_a_bulkheads_limit_can_be_set_while_it_is_used(autojump_clock):
    bulkhead = Bulkhead(1)
    async with trio.open_nursery() as nursery:
        await line_up(nursery, bulkhead, 5)
        bulkhead.limit = 3
        assert (bulkhead.borrowed, bulkhead.tasks_waiting) == (3, 2)
        bulkhead.limit = 1
        assert bulkhead.available == -2
        bulkhead.release_on_behalf_of(0)
        assert bulkhead.tasks_waiting == 2
        bulkhead.limit = math.inf
    assert bulkhead.borrowed == 4
    with pytest.raises(ValueError, match="int >= 1"):
        bulkhead.limit = 0
    with pytest.raises(ValueError, match="int >= 1"):
        Bulkhead(2.5)
    with pytest.raises(ValueError, match="max_waiting"):
        Bulkhead(1, max_waiting=-1)


async def test_success_widens_the_limit_while_it_is_used_and_lets_the_next_in(autojump_clock):
    limiter = limiter_of(2)
    async with trio.open_nursery() as nursery:
        await line_up(nursery, limiter, 5)
        limiter.release_on_behalf_of(0)
        assert (limiter.limit, limiter.borrowed, limiter.tasks_waiting) == (3, 3, 1)
        limiter.release_on_behalf_of(1)
    assert (limiter.limit, limiter.borrowed, limiter.tasks_waiting) == (4, 3, 0)
    idle = limiter_of(20)
    async with idle:
        pass
    assert idle.limit == 20


async def test_a_drop_narrows_the_limit_before_the_slot_is_handed_on(autojump_clock):
    limiter = limiter_of(10)
    for n in range(10):
        limiter.acquire_on_behalf_of_nowait(n)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.acquire)
        await wait_all_tasks_blocked()
        limiter.release_on_behalf_of(0, Sample.DROP)
        assert (limiter.limit, limiter.borrowed, limiter.tasks_waiting) == (9, 9, 1)
        limiter.release_on_behalf_of(1, Sample.IGNORED)
        assert (limiter.limit, limiter.borrowed, limiter.tasks_waiting) == (9, 9, 0)
    assert limiter.statistics().drops == 1


async def time_out(limiter):
    async with limiter:
        with trio.fail_after(1):
            await trio.sleep_forever()


async def test_our_own_timeout_is_a_drop_the_callers_is_ignored(autojump_clock):
    limiter = limiter_of(20)
    with trio.move_on_after(1):
        async with limiter:
            await trio.sleep_forever()
    assert limiter.limit == 20
    with pytest.raises(trio.TooSlowError):
        await time_out(limiter)
    assert limiter.limit == 18
    with pytest.raises(OSError, match="no route"):
        async with limiter:
            raise OSError("no route")
    assert limiter.limit == 18
    async with limiter as call:
        call.report(Sample.DROP)  # answered 503
    assert (limiter.limit, limiter.statistics().drops) == (16, 2)


@pytest.mark.parametrize(
    ("slots", "shown"),
    [
        (Bulkhead(4), "Bulkhead at 0x.*, 0/4 with 0 waiting>"),
        (limiter_of(7), "AdaptiveLimiter at 0x.*, 0/7 with"),
    ],
)
def test_reprs_tell_how_full_they_are(slots, shown):
    import re

    assert re.search(shown, repr(slots))
