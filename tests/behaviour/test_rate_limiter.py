"""The rate limiter: who waits, for how long, and who moves up when somebody leaves."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from econeura_daemon.primitives import QueueFullError, RateLimitedError, RateLimiter


async def test_the_burst_goes_at_once_and_the_rest_at_the_rate(autojump_clock):
    limiter, begun, at = RateLimiter(10, burst=3), trio.current_time(), []

    async def send():
        async with limiter:
            at.append(round(trio.current_time() - begun, 6))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(send)
    assert at == [0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5]


async def test_who_came_first_is_served_first_also_if_it_wants_more(autojump_clock):
    limiter, order = RateLimiter(10, burst=5), []
    limiter.acquire_nowait(4)  # one is left, and enough for the second that comes

    async def take(name, tokens):
        await limiter.acquire(tokens)
        order.append(name)

    async with trio.open_nursery() as nursery:
        for name, tokens in (("large", 5), ("small", 1), ("medium", 2)):
            nursery.start_soon(take, name, tokens)
            await wait_all_tasks_blocked(0.001)
        with pytest.raises(RateLimitedError, match="3 callers wait"):
            limiter.acquire_nowait()
    assert order == ["large", "small", "medium"]


async def test_who_leaves_the_queue_takes_nothing_and_those_behind_move_up(autojump_clock):
    limiter, begun, at = RateLimiter(1), trio.current_time(), {}
    limiter.acquire_nowait()

    async def take(name, patience):
        with trio.move_on_after(patience):
            await limiter.acquire()
            at[name] = round(trio.current_time() - begun, 2)

    async with trio.open_nursery() as nursery:
        for name, patience in (("first", 0.5), ("second", 9), ("third", 0.6), ("fourth", 9)):
            nursery.start_soon(take, name, patience)
            await wait_all_tasks_blocked(0.001)
    assert at == {"second": 1.0, "fourth": 2.0}
    assert limiter.statistics().tasks_waiting == 0


async def test_the_nowait_form_says_when_it_would_work(autojump_clock):
    limiter = RateLimiter(4)
    limiter.acquire_nowait()
    with pytest.raises(trio.WouldBlock) as refused:
        limiter.acquire_nowait()
    assert refused.value.until == trio.current_time() + 0.25
    assert refused.value.reason == "4 a second are allowed"
    await trio.sleep_until(refused.value.until)
    limiter.acquire_nowait()


async def test_the_queue_is_bounded(autojump_clock):
    limiter = RateLimiter(1, max_waiting=2)
    limiter.acquire_nowait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.acquire)
        nursery.start_soon(limiter.acquire)
        await wait_all_tasks_blocked()
        with (
            assert_checkpoints(),
            pytest.raises(QueueFullError, match="2 callers wait for 1 tokens a second"),
        ):
            await limiter.acquire()
        nursery.cancel_scope.cancel()
    with pytest.raises(ValueError, match="max_waiting"):
        RateLimiter(1, max_waiting=1.5)


async def test_acquire_is_a_checkpoint_and_a_cancelled_one_takes_nothing(autojump_clock):
    limiter = RateLimiter(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await limiter.acquire()
    assert scope.cancelled_caught
    assert limiter.statistics().tokens == 1
    with assert_checkpoints():
        await limiter.acquire()
    with assert_checkpoints():
        async with limiter:
            pass


async def test_what_can_never_be_is_said_at_once(autojump_clock):
    limiter = RateLimiter(1, burst=2)
    for wrong in (3, 0, -1):
        with pytest.raises(ValueError, match="at most the burst of 2"):
            await limiter.acquire(wrong)
    assert "RateLimiter at 0x" in repr(limiter)
    assert "1/s with 0 waiting" in repr(limiter)


@given(
    rate=st.integers(1, 50),
    burst=st.integers(1, 5),
    callers=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5), st.integers(0, 30)), max_size=30),
)
def test_random_cancellations_take_no_token_and_leave_no_place(rate, burst, callers):
    async def main():
        limiter, taken = RateLimiter(rate, burst, max_waiting=8), []

        async def take(arrives, tokens, patience):
            await trio.sleep(arrives / 10)
            with trio.move_on_after(patience / 10):
                try:
                    await limiter.acquire(min(tokens, burst))
                except QueueFullError:
                    return
                taken.append((trio.current_time(), min(tokens, burst)))

        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(take, *caller)
        assert limiter.statistics().tasks_waiting == 0
        for n, (since, _) in enumerate(taken):
            for m in range(n, len(taken)):
                within = sum(tokens for _, tokens in taken[n : m + 1])
                assert within <= burst + rate * (taken[m][0] - since) + 1e-6
        spent = sum(tokens for _, tokens in taken)
        await trio.sleep((spent + burst) / rate)
        assert limiter.statistics().tokens == burst  # nothing was taken that nobody got
        limiter.acquire_nowait(burst)

    trio.run(main, clock=MockClock(autojump_threshold=0))
