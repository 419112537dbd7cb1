"""Takes on no more requests than can be handled.

A slot stands for a handler at work. One that waits for its client, for more of a body or until the client has read
what was answered, lends its slot to others: clients that are slow, or want to be, keep nobody else waiting.
"""

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import coroutine
from typing import Any, TypeVar

import trio

from econeura_daemon.server.problems import Problem

RETRY_AFTER = b"1"
NEVER_SHED = frozenset(("/livez", "/readyz", "/health", "/metrics"))
"""A daemon that is busy is not dead: requests for these never wait."""


class Slots:
    """A number of slots, and a bounded, fair queue for them."""

    def __init__(self, total: int, waiting: int) -> None:
        self.free = total
        """Slots that nobody holds."""
        self._total = total
        self._max_waiting = waiting
        self._lot = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<Slots: {self.free} of {self._total} free, {len(self._lot)} of {self._max_waiting} waiting>"

    def take(self) -> None:
        """Take a slot that is `free`."""
        assert self.free, "somebody else was quicker, which takes a checkpoint"
        self.free -= 1

    async def acquire(self) -> bool:
        """Take a slot, in the order of asking; False at once if as many wait already as may.

        No checkpoint while a slot is free.
        """
        if self.free:  # while anybody waits none is free: `release` hands it on
            self.free -= 1
            return True
        if len(self._lot) >= self._max_waiting:
            return False
        await self._lot.park()
        return True

    async def acquire_in_turn(self) -> None:
        """Take a slot, however many wait: for whoever had one before, and cannot be refused any more."""
        if self.free:
            self.free -= 1
        else:
            await self._lot.park()

    def release(self) -> None:
        """Give a slot back: to the one who has waited longest, if any."""
        if not self._lot or not self._lot.unpark(count=1):
            self.free += 1


def overloaded() -> Problem:
    """Return the refusal of a request for which there is neither a slot nor a place in the queue."""
    return Problem.of(
        "overloaded",
        "More requests are waiting than the daemon takes on.",
        headers=[(b"retry-after", RETRY_AFTER)],
    )


class Hold:
    """A slot, for one request; giving it back twice is harmless."""

    __slots__ = ("_is_awaited", "_is_held", "_is_over", "_slots")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._is_held = True
        self._is_awaited = False
        self._is_over = False

    def release(self) -> None:
        """Give it back for good."""
        self._is_over = True
        self.lend()

    def lend(self) -> None:
        """Give it back for as long as the handler waits for its client."""
        if self._is_held:
            self._is_held = False
            self._slots.release()

    async def resume(self) -> bool:
        """Have it again; False if too many wait already. No checkpoint if it was never lent.

        Of several tasks of a handler one waits for it, and the others go on: they might wait for each other.
        """
        if self._is_wanted:
            with self._waiting():
                if not await self._slots.acquire():
                    return False
                self._resumed()
        return True

    async def resume_in_turn(self) -> None:
        """Have it again, however many wait; else as `resume`."""
        if self._is_wanted:
            with self._waiting():
                await self._slots.acquire_in_turn()
                self._resumed()

    @property
    def _is_wanted(self) -> bool:
        return not (self._is_held or self._is_awaited or self._is_over)

    @contextmanager
    def _waiting(self) -> Generator[None]:
        self._is_awaited = True
        try:
            yield
        finally:
            self._is_awaited = False

    def _resumed(self) -> None:
        if self._is_over:
            self._slots.release()
        else:
            self._is_held = True


_T = TypeVar("_T")


@coroutine
def noticing_waits(waiting: Awaitable[_T], begins_to_wait: Callable[[], None]) -> Generator[Any, Any, _T]:
    """Await; call ``begins_to_wait`` if that is not done at once."""
    steps = waiting.__await__()
    try:
        trap = next(steps)
        begins_to_wait()
        while True:
            try:
                outcome = yield trap
            except BaseException as error:  # noqa: BLE001 - all are passed on
                trap = steps.throw(error)
            else:
                trap = steps.send(outcome)
    except StopIteration as done:
        result: _T = done.value
        return result
