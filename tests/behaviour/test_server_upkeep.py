"""The sweep over a server's connections: what it looks at, when, and what that costs."""

import math
import socket

import pytest
import trio

from econeura_daemon.server.connection import Drain
from econeura_daemon.server.upkeep import TICK, open_upkeep


class Attended:
    def __init__(self, upkeep, fd=-1):
        self.upkeep = upkeep
        self.look_at = math.inf
        self.is_idle = False
        self.woken = []
        self.leavings = []
        self.looks = 0
        self._deadline = math.inf
        self._fd = fd
        upkeep.enter(self)

    @property
    def deadline(self):
        self.looks += 1
        return self._deadline

    def expect(self, deadline):
        self._deadline = deadline
        if deadline < self.look_at:
            self.upkeep.look_sooner(self)

    def fileno(self):
        return self._fd

    def wake(self):
        self.woken.append(trio.current_time())
        self._deadline = math.inf

    def left(self, *, is_reset):
        self.leavings.append(is_reset)


@pytest.fixture
async def upkeep():
    async with open_upkeep(Drain()) as upkeep:
        yield upkeep


async def test_whoever_has_a_deadline_is_woken_after_it_and_within_a_tick(upkeep, autojump_clock):
    start = trio.current_time()
    some = [Attended(upkeep) for _ in range(200)]
    for number, one in enumerate(some):
        one.expect(start + number * 0.037)
    await trio.sleep(10)
    for number, one in enumerate(some):
        [moment] = one.woken
        assert 0 <= moment - (start + number * 0.037) <= TICK + 1e-6


async def test_a_deadline_that_moves_nearer_counts_and_one_that_moves_away_too(upkeep, autojump_clock):
    start = trio.current_time()
    nearer, away, never, gone = (Attended(upkeep) for _ in range(4))
    for one in (nearer, away, never, gone):
        one.expect(start + 5)
    await trio.sleep(1)
    nearer.expect(start + 2)
    away.expect(start + 8)
    never.expect(math.inf)
    upkeep.leave(gone)
    await trio.sleep(20)
    assert [round(moment - start) for moment in nearer.woken + away.woken] == [2, 8]
    assert never.woken == gone.woken == []
    never.expect(start + 30)
    await trio.sleep(20)
    assert [round(moment - start) for moment in never.woken] == [30]


async def test_a_connection_that_did_not_hear_is_told_again(upkeep, autojump_clock):
    one = Attended(upkeep)
    one.wake = lambda: one.woken.append(trio.current_time())
    one.expect(trio.current_time() + 1)
    await trio.sleep(2)
    assert len(one.woken) >= 9


async def test_a_sweep_costs_by_what_is_due_and_not_by_what_is_open(upkeep, autojump_clock):
    """With thousands of connections a look at each of them, every tick, held up everybody's requests."""
    some = [Attended(upkeep) for _ in range(1000)]
    for second in range(60):
        for one in some:
            one.expect(trio.current_time() + 75)
        await trio.sleep(1)
        assert second < 59 or sum(one.looks for one in some) <= len(some)


async def test_nothing_is_kept_of_connections_that_are_gone(upkeep, autojump_clock):
    for number in range(100):
        one = Attended(upkeep)
        one.expect(trio.current_time() + 75 + number)
        one.expect(trio.current_time() + 10)
        upkeep.leave(one)
    kept = [one for bucket in upkeep._due.values() for one in bucket]
    assert kept == []


async def test_clients_that_leave_are_noticed_while_an_application_works_and_not_after(upkeep):
    ours, theirs = socket.socketpair()
    other, stays = socket.socketpair()
    with ours, theirs, other, stays, trio.fail_after(5):
        left, served, there = (
            Attended(upkeep, ours.fileno()),
            Attended(upkeep),
            Attended(upkeep, other.fileno()),
        )
        upkeep.watch(served)
        upkeep.unwatch(served)  # before the next tick: its descriptor, which is none, was not asked for
        upkeep.watch(left)
        upkeep.watch(there)
        await trio.sleep(2 * TICK)
        assert left.leavings == []
        theirs.shutdown(socket.SHUT_WR)
        while len(left.leavings) < 2:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(TICK / 2)
        theirs.close()
        while not left.leavings[-1]:  # noqa: ASYNC110
            await trio.sleep(TICK / 2)
        upkeep.unwatch(left)
        known = len(left.leavings)
        await trio.sleep(3 * TICK)
        assert (len(left.leavings), there.leavings) == (known, [])
        upkeep.unwatch(there)
