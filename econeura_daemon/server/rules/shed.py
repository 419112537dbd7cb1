"""Takes on no more requests than can be handled."""

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
    """A slot held by one request; giving it back twice is harmless."""

    __slots__ = ("_is_held", "_slots")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._is_held = True

    def release(self) -> None:
        """Give it back."""
        if self._is_held:
            self._is_held = False
            self._slots.release()
