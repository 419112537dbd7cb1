"""A concurrency limit with a bounded queue: what is slow cannot take everything."""

from types import TracebackType
from typing import final

import attrs
import trio

from econeura_daemon.primitives.slots import Slots, check_limit


@attrs.frozen
class BulkheadStatistics:
    """How full a bulkhead is."""

    borrowed: int
    limit: float
    borrowers: tuple[object, ...]
    """The tasks, or other objects, that hold a slot."""
    tasks_waiting: int
    max_waiting: float


@final
class Bulkhead(Slots):
    """At most ``limit`` at once, and at most ``max_waiting`` that wait for it.

    ::

        async with bulkhead:          # waits; QueueFullError, at once, if too many wait already
            await work()

    It is a `trio.CapacityLimiter` whose queue has an end: when more comes than can be done, a queue without
    bound turns every answer into a late one.
    """

    def __init__(self, limit: float, *, max_waiting: float = 100, name: str = "The bulkhead") -> None:
        super().__init__(limit, max_waiting, name)

    @property
    def limit(self) -> float:
        """How many slots there are.

        It can be set: a higher one lets those that wait in at once; a lower one takes no slot from anybody.
        """
        return self._limit

    @limit.setter
    def limit(self, limit: float) -> None:
        check_limit(limit)
        self._limit = limit
        self._hand_over()

    @trio.lowlevel.enable_ki_protection
    def release(self) -> None:
        """Give the current task's slot back. Raises RuntimeError if it holds none."""
        self.release_on_behalf_of(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    def release_on_behalf_of(self, borrower: object) -> None:
        """Give the slot of ``borrower`` back. Raises RuntimeError if it holds none."""
        self._give(borrower)
        self._hand_over()

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> None:
        await self.acquire_on_behalf_of(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release_on_behalf_of(trio.lowlevel.current_task())

    def statistics(self) -> BulkheadStatistics:
        """Return how full the bulkhead is."""
        return BulkheadStatistics(
            borrowed=len(self._borrowers),
            limit=self._limit,
            borrowers=tuple(self._borrowers),
            tasks_waiting=len(self._queue),
            max_waiting=self._max_waiting,
        )
