"""The retry budget as a Trio primitive."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from econeura_daemon.primitives import BudgetExhaustedError, BudgetPolicy, RetryBudget


async def test_retries_are_given_until_they_are_spent_and_again_later(autojump_clock):
    budget = RetryBudget()
    async with budget:
        for _ in range(30):
            async with budget.retries:
                pass
        with pytest.raises(BudgetExhaustedError, match="30 retries of 1 calls within 10 s spent"):
            await budget.retries.acquire()
        await trio.sleep(11)
        async with budget.retries:
            assert budget.statistics().retries_in_flight == 1
    found = budget.statistics()
    assert (found.calls_in_flight, found.retries_in_flight, found.retries) == (0, 0, 1)


async def test_when_everything_hangs_only_a_fifth_of_it_is_retried(autojump_clock):
    budget, refused = RetryBudget(), []

    async def call():
        async with budget:
            await trio.sleep(1)  # the first attempt hangs, and is given up
            try:
                async with budget.retries:
                    await trio.sleep_forever()
            except BudgetExhaustedError as error:
                refused.append(error.reason)
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(call)
        await trio.sleep(2)
        assert budget.statistics().retries_in_flight == 20
        assert budget.statistics().refusal.reason == "20 retries are under way among 100 calls"
        nursery.cancel_scope.cancel()
    assert len(refused) == 80
    assert budget.statistics().calls_in_flight == 0
    assert budget.statistics().retries_in_flight == 0


async def test_each_acquire_is_a_checkpoint_and_a_cancelled_one_counts_nothing(autojump_clock):
    budget = RetryBudget(BudgetPolicy(reserve=1))
    for one in (budget, budget.retries):
        with trio.CancelScope() as scope:
            scope.cancel()
            await one.acquire()
        assert scope.cancelled_caught
    assert budget.statistics().calls == budget.statistics().retries == 0
    for one in (budget, budget.retries):
        with assert_checkpoints():
            await one.acquire()
    with assert_checkpoints(), pytest.raises(BudgetExhaustedError):
        await budget.retries.acquire_on_behalf_of("another")
    for one in (budget, budget.retries):
        one.release()


async def test_a_borrower_has_one_call_and_one_retry_and_ends_only_its_own(autojump_clock):
    budget = RetryBudget()
    for one, noun in ((budget, "call"), (budget.retries, "retry")):
        one.acquire_nowait()
        with pytest.raises(RuntimeError, match=f"has a {noun} under way"):
            one.acquire_nowait()
        await one.acquire_on_behalf_of("another")
        one.release()
        one.release_on_behalf_of("another")
        with pytest.raises(RuntimeError, match=f"has no {noun} under way"):
            one.release()
    assert "0 calls, 0 retries in flight>" in repr(budget)


@given(
    st.lists(
        st.tuples(st.integers(0, 10), st.integers(1, 10), st.integers(1, 10), st.integers(0, 30)), max_size=40
    )
)
def test_random_cancellations_leave_every_counter_at_0(callers):
    async def main():
        budget = RetryBudget(BudgetPolicy(ratio=0.5, reserve=2))

        async def call(arrives, first, second, patience):
            await trio.sleep(arrives / 10)
            with trio.move_on_after(patience / 10):
                async with budget:
                    await trio.sleep(first / 10)
                    try:
                        async with budget.retries:
                            await trio.sleep(second / 10)
                    except BudgetExhaustedError:
                        pass

        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(call, *caller)
            await wait_all_tasks_blocked()
        found = budget.statistics()
        assert (found.calls_in_flight, found.retries_in_flight) == (0, 0)
        await trio.sleep(20)
        assert budget.statistics().calls == budget.statistics().retries == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))
