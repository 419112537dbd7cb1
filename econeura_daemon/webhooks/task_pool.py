"""Tasks that are used again: one that waits for its next item costs less than one that is begun and ended."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

Item = TypeVar("Item")

MAX_IDLE = 256
"""Tasks that wait, at some 4 kB each; at saturation about a hundred attempts begin together."""


class TaskPool(Generic[Item]):
    """Runs ``run`` for each item in a task of ``nursery`` that nobody else uses meanwhile.

    What ``run`` raises ends the nursery. Idle tasks keep the nursery open until `retire`. A context variable that
    ``run`` sets and does not reset is still set for the task's next item.
    """

    def __init__(self, nursery: trio.Nursery, run: Callable[[Item], Awaitable[None]]) -> None:
        self._nursery = nursery
        self._run = run
        self._idle: dict[trio.lowlevel.Task, None] = {}
        self._handed: deque[Item] = deque()
        self._retired = False

    @property
    def idle(self) -> int:
        """Tasks that wait."""
        return len(self._idle)

    def start(self, item: Item) -> None:
        """Run for ``item`` from the next pass of the loop on. Call on the event loop."""
        if self._idle:
            task, _ = self._idle.popitem()  # the one that ended last: its memory is warm
            self._handed.append(item)
            trio.lowlevel.reschedule(task)
        else:
            self._nursery.start_soon(self._work, item, name="attempts")

    def retire(self) -> None:
        """Let each task end with what it has under way; what is started from now on has a task of its own."""
        self._retired = True
        while self._idle:
            task, _ = self._idle.popitem()
            trio.lowlevel.reschedule(task)

    async def _work(self, item: Item) -> None:
        while True:
            await self._run(item)
            del item  # an event's body may be large
            if self._retired or len(self._idle) >= MAX_IDLE:
                return
            await self._be_idle()
            if not self._handed:
                return  # retired
            item = self._handed.popleft()

    async def _be_idle(self) -> None:
        task = trio.lowlevel.current_task()
        self._idle[task] = None

        def abandon(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._idle[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abandon)
