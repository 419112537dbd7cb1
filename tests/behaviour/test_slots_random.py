"""Bulkhead and adaptive limiter: random callers leak nothing, random steps do what two lists do."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from econeura_daemon.primitives import (
    AdaptiveLimiter,
    AdaptivePolicy,
    Bulkhead,
    QueueFullError,
    RefusedError,
    Sample,
)


def limiter_of(limit, max_waiting=100):
    return AdaptiveLimiter(AdaptivePolicy(initial=limit), max_waiting=max_waiting)


CALLERS = st.lists(
    st.tuples(
        st.integers(0, 20),  # arrives, in tenths of a second
        st.integers(1, 20),  # works for so long
        st.integers(0, 30),  # has a deadline after so long
        st.sampled_from(["well", "raises", "drops"]),
    ),
    max_size=40,
)


def break_down():
    raise OSError("no route")


async def be_called(slots, arrives, works, patience, how, seen):
    await trio.sleep(arrives / 10)
    with trio.move_on_after(patience / 10):
        try:
            async with slots as call:
                seen.append(slots.borrowed)
                await trio.sleep(works / 10)
                if how == "raises":
                    break_down()
                if how == "drops" and call is not None:
                    call.report(Sample.DROP)
        except (OSError, RefusedError):
            pass


@pytest.mark.parametrize("make", [Bulkhead, limiter_of])
@given(callers=CALLERS, limit=st.integers(1, 4), max_waiting=st.integers(0, 5))
def test_random_cancellations_leak_no_slot(make, callers, limit, max_waiting):
    async def main():
        slots, seen = make(limit, max_waiting=max_waiting), []
        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(be_called, slots, *caller, seen)
        found = slots.statistics()
        assert (found.borrowed, found.tasks_waiting, found.borrowers) == (0, 0, ())
        if make is Bulkhead:
            assert max(seen, default=0) <= limit
        else:
            assert slots._calls == {}
        for n in range(slots.limit):
            slots.acquire_on_behalf_of_nowait(n)

    trio.run(main, clock=MockClock(autojump_threshold=0))


class Model:
    """The naive one: two lists, gone through from the front."""

    def __init__(self, limit, max_waiting):
        self.limit, self.max_waiting, self.holders, self.queue = limit, max_waiting, [], []

    def settle(self):
        while self.queue and len(self.holders) < self.limit:
            self.holders.append(self.queue.pop(0))


STEPS = st.lists(
    st.tuples(st.sampled_from(["come", "come", "go", "give", "drop"]), st.integers(0, 9)), max_size=60
)


@pytest.mark.parametrize("make", [Bulkhead, limiter_of])
@given(steps=STEPS, limit=st.integers(1, 4), max_waiting=st.integers(0, 4))
def test_slots_do_what_two_lists_do(make, steps, limit, max_waiting):
    async def main():
        slots, model, scopes = make(limit, max_waiting=max_waiting), Model(limit, max_waiting), {}

        async def come(n):
            with trio.CancelScope() as scopes[n]:
                await slots.acquire_on_behalf_of(n)

        async with trio.open_nursery() as nursery:
            for step, n in steps:
                if step == "come" and n not in model.holders and n not in model.queue:
                    if len(model.holders) == model.limit and len(model.queue) == max_waiting:
                        with pytest.raises(QueueFullError):
                            await slots.acquire_on_behalf_of(n)
                    else:
                        nursery.start_soon(come, n)
                        await wait_all_tasks_blocked()
                        model.queue.append(n)
                elif step == "go" and n in model.queue:
                    scopes[n].cancel()
                    model.queue.remove(n)
                elif step in {"give", "drop"} and n in model.holders:
                    if make is Bulkhead:
                        slots.release_on_behalf_of(n)
                    else:
                        slots.release_on_behalf_of(n, Sample.SUCCESS if step == "give" else Sample.DROP)
                        if step == "drop":
                            model.limit = max(1, min(model.limit - 1, int(model.limit * 0.9)))
                        elif len(model.holders) * 2 >= model.limit:
                            model.limit += 1
                    model.holders.remove(n)
                model.settle()
                assert (slots.limit, slots._borrowers) == (model.limit, set(model.holders))
                assert slots.tasks_waiting == len(model.queue)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
