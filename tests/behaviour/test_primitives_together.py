"""All primitives around one call, as a client stacks them, and what each of them keeps when callers go away."""

import subprocess
import sys
from contextlib import suppress

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from econeura_daemon.primitives import (
    AdaptiveLimiter,
    AdaptivePolicy,
    BreakerPolicy,
    Bulkhead,
    CircuitBreaker,
    RateLimiter,
    RefusedError,
    RetryBudget,
    State,
    Verdict,
)

STEADY = BreakerPolicy(jitter=0.0, ramp=0.0)


@attrs.define
class Stack:
    """What stands around a call, from the outside in."""

    breaker_policy: BreakerPolicy = STEADY
    budget: RetryBudget = attrs.Factory(RetryBudget)
    bulkhead: Bulkhead = attrs.Factory(lambda: Bulkhead(8, max_waiting=20))
    rate: RateLimiter = attrs.Factory(lambda: RateLimiter(50, burst=5, max_waiting=20))
    limiter: AdaptiveLimiter = attrs.Factory(
        lambda: AdaptiveLimiter(AdaptivePolicy(initial=3), max_waiting=20)
    )
    breaker: CircuitBreaker = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.breaker = CircuitBreaker(self.breaker_policy)

    async def attempt(self, works, how):
        async with self.rate, self.limiter, self.breaker as call:
            await trio.sleep(works / 10)
            if how == "fails":
                call.report(Verdict.FAILURE)

    async def call(self, works, how):
        async with self.budget, self.bulkhead:
            try:
                await self.attempt(works, how)
            except RefusedError:
                async with self.budget.retries:
                    await self.attempt(works, how)

    def assert_all_is_back(self):
        budget = self.budget.statistics()
        assert (budget.calls_in_flight, budget.retries_in_flight) == (0, 0)
        for slots in (self.bulkhead, self.limiter):
            assert (slots.borrowed, slots.tasks_waiting) == (0, 0)
        assert self.rate.statistics().tasks_waiting == 0
        breaker = self.breaker.statistics()
        assert (breaker.in_flight, breaker.trials) == (0, 0)


CALLERS = st.lists(
    st.tuples(
        st.integers(0, 20),
        st.integers(1, 20),
        st.integers(0, 40),
        st.sampled_from(["well", "well", "fails"]),
    ),
    max_size=50,
)


@given(CALLERS)
def test_random_cancellations_leave_every_counter_at_0(callers):
    async def main():
        stack = Stack()

        async def caller(arrives, works, patience, how):
            await trio.sleep(arrives / 10)
            with trio.move_on_after(patience / 10):
                with suppress(RefusedError):
                    await stack.call(works, how)

        async with trio.open_nursery() as nursery:
            for each in callers:
                nursery.start_soon(caller, *each)
        stack.assert_all_is_back()

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.rounds(short=500, soak=10_000)
def test_cancelling_at_every_step_of_a_call_leaks_nothing(rounds):
    """Cancelled after the first, the second, the third ... turn of the scheduler, over and over."""

    async def main():
        stack = Stack(rate=RateLimiter(1e9, burst=1e6))
        for n in range(rounds):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(stack.call, 1, "well")
                for _ in range(n % 25):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            stack.assert_all_is_back()
        assert stack.breaker.state is State.CLOSED

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_an_interruption_by_the_keyboard_leaks_nothing(autojump_clock):
    stack = Stack()

    async def interrupted():
        async with stack.budget, stack.bulkhead, stack.limiter, stack.breaker:
            await trio.lowlevel.checkpoint()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await interrupted()
    stack.assert_all_is_back()
    assert stack.breaker.statistics().calls == 0
    assert stack.limiter.statistics().drops == 0


def test_they_can_be_imported_without_the_rest_of_the_daemon():
    code = (
        "import sys, econeura_daemon.primitives; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'httpx', 'httpcore', 'quart', 'hypercorn', 'sqlalchemy', 'cattrs', 'orjson', 'anyio'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
