"""Slots with a bounded queue: what a bulkhead and an adaptive limiter have in common.

Waiting is first come, first served; whoever releases hands the slot to the first that waits, in the same step, so
nobody who comes later can take it in between. A caller whose deadline passes leaves the queue by Trio's own
cancellation.
"""

from collections import OrderedDict
from math import inf

import trio

from econeura_daemon.primitives.errors import LimitReachedError, QueueFullError


class Slots:
    """At most ``limit`` borrowers hold a slot, at most ``max_waiting`` wait for one."""

    def __init__(self, limit: float, max_waiting: float, name: str) -> None:
        check_limit(limit)
        self._limit = limit
        self.max_waiting = max_waiting
        self._name = name
        self._borrowers: set[object] = set()
        # Not a `trio.lowlevel.ParkingLot`: that knows tasks alone, and whoever keeps the borrowers beside it
        # is behind by the time between a cancellation and the task's next step.
        self._queue: OrderedDict[object, trio.lowlevel.Task] = OrderedDict()

    def __repr__(self) -> str:
        return (
            f"<{type(self).__module__}.{type(self).__name__} at {id(self):#x}, "
            f"{len(self._borrowers)}/{self._limit} with {len(self._queue)} waiting>"
        )

    @property
    def borrowed(self) -> int:
        """Slots that are held."""
        return len(self._borrowers)

    @property
    def available(self) -> float:
        """Slots that are free; below 0 after the limit was lowered under what is held."""
        return self._limit - len(self._borrowers)

    @property
    def tasks_waiting(self) -> int:
        """Callers that wait for a slot."""
        return len(self._queue)

    @property
    def max_waiting(self) -> float:
        """How many callers may wait. It can be set; who waits already stays."""
        return self._max_waiting

    @max_waiting.setter
    def max_waiting(self, max_waiting: float) -> None:
        if max_waiting != inf and not (isinstance(max_waiting, int) and max_waiting >= 0):
            raise ValueError(f"expected max_waiting to be an int >= 0 or math.inf, got {max_waiting!r}")
        self._max_waiting = max_waiting

    @trio.lowlevel.enable_ki_protection
    def acquire_nowait(self) -> None:
        """Take a slot for the current task. Raises `LimitReachedError`, which is a `trio.WouldBlock`.

        Raises RuntimeError if the task holds one already: two could wait for each other for ever.
        """
        self.acquire_on_behalf_of_nowait(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Take a slot for ``borrower``, which is any hashable object. Raises as `acquire_nowait` does."""
        if not self._take(borrower):
            raise LimitReachedError(self._name, self._all_taken())

    @trio.lowlevel.enable_ki_protection
    async def acquire(self) -> None:
        """Take a slot for the current task, waiting for it if need be; a checkpoint.

        Raises `QueueFullError` if no more callers may wait, RuntimeError as `acquire_nowait` does.
        """
        await self.acquire_on_behalf_of(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Take a slot for ``borrower``, waiting for it if need be; a checkpoint. Raises as `acquire` does."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._take(borrower):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        if len(self._queue) >= self._max_waiting:
            refused = QueueFullError(self._name, self._all_taken())
            await trio.lowlevel.checkpoint()  # who tries again and again must not keep others from releasing
            raise refused
        if borrower in self._queue:
            raise RuntimeError(f"{borrower!r} waits for a slot already")
        self._queue[borrower] = trio.lowlevel.current_task()

        def leave(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            del self._queue[borrower]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    def _take(self, borrower: object) -> bool:
        if borrower in self._borrowers:
            raise RuntimeError(f"{borrower!r} holds a slot already")
        if len(self._borrowers) >= self._limit:
            return False  # so nobody overtakes: while anybody waits, all slots are taken
        self._borrowers.add(borrower)
        return True

    def _give(self, borrower: object) -> None:
        try:
            self._borrowers.remove(borrower)
        except KeyError:
            raise RuntimeError(f"{borrower!r} holds no slot") from None

    def _hand_over(self) -> None:
        """Give free slots to those that wait, the first ones first."""
        while self._queue and len(self._borrowers) < self._limit:
            borrower, task = self._queue.popitem(last=False)
            self._borrowers.add(borrower)
            trio.lowlevel.reschedule(task)

    def _all_taken(self) -> str:
        waiting = len(self._queue)
        taken = f"all of {self._limit} slots are taken"
        return f"{taken} and {waiting} callers wait" if waiting else taken


def check_limit(limit: float) -> None:
    """Raise ValueError unless ``limit`` is a number of slots."""
    if limit != inf and not (isinstance(limit, int) and limit >= 1):
        raise ValueError(f"expected a limit that is an int >= 1 or math.inf, got {limit!r}")
