"""The place where calls of workers wait for their turn.

How much workers take at once is found out by the limits of their instances (`client`), which know nothing of
priorities; so as many calls are let through here as those limits have room for, and the others wait, where `turns`
decides who goes next. Waiting is bounded in number and time: who finds no place, has to give his to another, or gets
no turn in time, is told when to come again.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import attrs
import trio

from econeura_daemon.core.errors import EconeuraError
from econeura_daemon.workers.model import Priority
from econeura_daemon.workers.turns import Turns

LOOK = 0.05
"""Seconds between two looks at how much room there is, while somebody waits: it changes by others' calls too."""
RETRY_AFTER = 1.0


class NoTurnError(EconeuraError):
    """More is asked of workers than they get done; nothing was asked of them for this call."""

    retry_after = RETRY_AFTER
    """Seconds."""


@attrs.define(eq=False)
class _Waiter:
    decided: trio.Event = attrs.field(factory=trio.Event)
    has_turn: bool = False
    """Else, once it is decided, his place is another's."""


class Waiting:
    """Lets calls through in their turn."""

    def __init__(self, room: Callable[[int], float], *, max_waiting: int, max_wait: float) -> None:
        """``room`` returns how many calls from here workers take at once, given how many are under way.

        ``max_wait``: in seconds.
        """
        self._room = room
        self.max_waiting = max_waiting
        self.max_wait = max_wait
        self._turns: Turns[_Waiter] = Turns()
        self._somebody = trio.Event()
        self.under_way = 0
        """Calls that were let through and have not ended."""

    def __repr__(self) -> str:
        return f"<Waiting: {len(self._turns)} wait, {self.under_way} under way>"

    def __len__(self) -> int:
        return len(self._turns)

    def count(self, priority: Priority) -> int:
        """Return how many wait with a priority."""
        return self._turns.count(priority)

    @asynccontextmanager
    async def turn(self, priority: Priority, organization: str) -> AsyncGenerator[None]:
        """Hold a turn for the length of the block; to get it is a checkpoint. Raises `NoTurnError`."""
        await self._acquire(priority, organization)
        try:
            yield
        finally:
            self._release()

    async def look(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let those go for whom room comes up without a call of ours that ends, for ever."""
        task_status.started()
        while True:
            self._somebody = trio.Event()
            if not self._turns:
                await self._somebody.wait()
            await trio.sleep(LOOK)
            self._let_go()

    async def _acquire(self, priority: Priority, organization: str) -> None:
        await trio.lowlevel.checkpoint()
        self._let_go()
        if not self._turns and self.under_way < self._room(self.under_way):
            self.under_way += 1
            return
        mine = _Waiter()
        if len(self._turns) >= self.max_waiting:
            other = self._turns.give_way(priority, organization)
            if other is None:
                raise self._full()
            other.decided.set()
        self._turns.add(priority, organization, mine)
        self._somebody.set()
        try:
            with trio.move_on_after(self.max_wait):
                await mine.decided.wait()
        except BaseException:
            if mine.has_turn:  # it came while the cancellation was on its way
                self._release()
            elif not mine.decided.is_set():
                self._turns.remove(priority, organization, mine)
            raise
        if mine.has_turn:
            return
        if mine.decided.is_set():
            raise self._full()
        self._turns.remove(priority, organization, mine)
        raise NoTurnError(
            f"Workers had no time for this {priority} call within {round(self.max_wait * 1000)} ms"
        )

    def _full(self) -> NoTurnError:
        return NoTurnError(
            f"{len(self._turns)} calls wait for workers already, as many as workers.max_waiting allows"
        )

    def _release(self) -> None:
        self.under_way -= 1
        self._let_go()

    def _let_go(self) -> None:
        while self._turns and self.under_way < self._room(self.under_way):
            waiter = self._turns.next()
            waiter.has_turn = True
            waiter.decided.set()
            self.under_way += 1
