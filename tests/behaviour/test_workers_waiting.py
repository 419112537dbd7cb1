"""Waiting for workers: as many as they take, in turn, so long and no longer; cancelled anywhere, nothing is left."""

from contextlib import suppress
from itertools import pairwise
from random import Random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.workers.model import Priority
from econeura_daemon.workers.waiting import LOOK, NoTurnError, Waiting


class Room:
    def __init__(self, calls):
        self.calls = calls

    def __call__(self, _under_way):
        return self.calls


@pytest.fixture
async def looking(nursery):
    """Return a `Waiting` with room for ``calls``, that looks."""

    async def opened(calls, max_waiting=10, max_wait=5.0):
        room = Room(calls)
        waiting = Waiting(room, max_waiting=max_waiting, max_wait=max_wait)
        await nursery.start(waiting.look)
        return waiting, room

    return opened


async def hold(waiting, seconds, order, who, priority=Priority.NORMAL, organization="acme"):
    async with waiting.turn(priority, organization):
        order.append(who)
        await trio.sleep(seconds)


async def test_no_more_are_under_way_than_there_is_room_for(autojump_clock, looking):
    waiting, _ = await looking(3, max_waiting=100, max_wait=100)
    most, order = 0, []

    async def one(n):
        nonlocal most
        async with waiting.turn(Priority.NORMAL, "acme"):
            most = max(most, waiting.under_way)
            order.append(n)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(one, n)
    assert most == 3
    assert len(order) == 20
    assert (waiting.under_way, len(waiting)) == (0, 0)
    assert trio.current_time() < 8


async def test_a_turn_is_a_checkpoint_also_when_there_is_room(looking):
    waiting, _ = await looking(3)
    with trio.CancelScope() as scope:
        scope.cancel()
        async with waiting.turn(Priority.LOW, "acme"):
            pytest.fail("not reached")
    assert scope.cancelled_caught
    assert waiting.under_way == 0


async def test_who_gets_no_turn_in_time_is_told_and_leaves_no_trace(autojump_clock, looking):
    waiting, _ = await looking(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, waiting, 60, [], "first")
        await trio.sleep(0.001)
        before = trio.current_time()
        with pytest.raises(NoTurnError, match="within 5000 ms"):
            await waiting._acquire(Priority.URGENT, "acme")
        assert trio.current_time() - before == pytest.approx(5)
        assert len(waiting) == 0
        nursery.cancel_scope.cancel()


async def test_room_that_comes_up_elsewhere_is_found_soon(autojump_clock, looking):
    waiting, room = await looking(0)
    order = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, waiting, 0, order, "one")
        await trio.sleep(1)
        assert order == []
        room.calls = 1
        await trio.sleep(2 * LOOK)
        assert order == ["one"]


async def test_one_organization_that_floods_keeps_nobody_from_a_place_nor_from_a_turn(
    autojump_clock, looking
):
    waiting, _ = await looking(1, max_waiting=100, max_wait=1000)
    order, refused = [], []

    async def flood(n):
        try:
            await hold(waiting, 1, order, ("flood", n), organization="flood")
        except NoTurnError:
            refused.append(n)

    async with trio.open_nursery() as nursery:
        for n in range(300):
            nursery.start_soon(flood, n)
        await trio.sleep(0.5)
        assert len(waiting) == 100
        for n in range(3):
            nursery.start_soon(hold, waiting, 1, order, ("small", n), Priority.NORMAL, "small")
        await trio.sleep(0.1)
        assert len(waiting) == 100
    assert [place for place, (who, _) in enumerate(order) if who == "small"] == [2, 4, 6]
    assert len(refused) == 202
    assert (waiting.under_way, len(waiting)) == (0, 0)


async def test_who_is_cancelled_and_loses_his_place_in_one_moment_leaves_no_trace(autojump_clock, looking):
    waiting, _ = await looking(1, max_waiting=2)

    async def flood(scope):
        with scope, suppress(NoTurnError):
            await hold(waiting, 0, [], "flood", organization="flood")

    for _ in range(20):  # which of the two comes first is Trio's choice
        order, scopes = [], [trio.CancelScope(), trio.CancelScope()]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, waiting, 2, [], "first")
            await wait_all_tasks_blocked()
            for scope in scopes:
                nursery.start_soon(flood, scope)
                await wait_all_tasks_blocked()
            nursery.start_soon(hold, waiting, 0, order, "small", Priority.NORMAL, "small")
            for _ in range(2):  # until it is about to take a place
                await trio.lowlevel.checkpoint()
            scopes[1].cancel()
            await wait_all_tasks_blocked()
            assert len(waiting) == 2
        assert order == ["small"]
        assert (waiting.under_way, len(waiting)) == (0, 0)


async def test_under_urgent_calls_without_end_the_low_ones_get_one_turn_of_nine(autojump_clock, looking):
    waiting, _ = await looking(1, max_waiting=1000, max_wait=1000)
    order = []

    async def again_and_again(priority):
        while True:
            await hold(waiting, 0.01, order, priority, priority)

    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            for priority in (Priority.URGENT, Priority.LOW):
                for _ in range(10):
                    nursery.start_soon(again_and_again, priority)
    low = [place for place, priority in enumerate(order) if priority is Priority.LOW]
    assert len(order) > 900
    assert {after - before for before, after in pairwise(low[1:])} == {9}


async def test_cancelled_at_any_point_a_turn_is_given_back(autojump_clock, looking):
    """A cancellation and a turn that meet: in 2,000 random meetings no slot leaks and nobody is left waiting."""
    waiting, _ = await looking(2, max_waiting=6, max_wait=0.3)
    rng, refused = Random(11), []

    async def one():
        with trio.move_on_after(rng.choice([0, 0.05, 0.1, 0.1, 0.2, 1])):
            try:
                async with waiting.turn(rng.choice(list(Priority)), rng.choice("abc")):
                    await trio.sleep(rng.choice([0, 0.05, 0.1]))
            except NoTurnError as error:
                refused.append(str(error))

    async with trio.open_nursery() as nursery:
        for _ in range(2000):
            nursery.start_soon(one)
            await trio.sleep(rng.choice([0, 0, 0.05]))
    assert (waiting.under_way, len(waiting)) == (0, 0)
    assert refused
    async with waiting.turn(Priority.LOW, "a"):
        assert waiting.under_way == 1
