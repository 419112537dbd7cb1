"""Topics and those who watch them, on the event loop."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import trio


class TopicWatch:
    """Wakes its waiters when its topic was announced since the last return: see `storage.model.Watch`."""

    def __init__(self) -> None:
        self._announced = False
        self._lot = trio.lowlevel.ParkingLot()

    async def wait(self) -> None:
        """Return at once if the topic was announced since the last return, else when it is. A checkpoint."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._announced:
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._lot.park()
        self._announced = False

    def wake(self) -> None:
        """Note that the topic was announced."""
        self._announced = True
        self._lot.unpark_all()

    def __repr__(self) -> str:
        return f"<TopicWatch announced={self._announced} waiting={len(self._lot)}>"


class Topics:
    """Who watches what."""

    def __init__(self) -> None:
        self._watches: dict[str, set[TopicWatch]] = {}

    @contextmanager
    def watch(self, topic: str) -> Generator[TopicWatch]:
        """Watch ``topic`` for the length of the block."""
        watch = TopicWatch()
        self._watches.setdefault(topic, set()).add(watch)
        try:
            yield watch
        finally:
            watches = self._watches[topic]
            watches.discard(watch)
            if not watches:
                del self._watches[topic]

    def wake(self, topics: Iterable[str]) -> None:
        """Wake those who watch one of ``topics``."""
        for topic in topics:
            for watch in self._watches.get(topic, ()):
                watch.wake()

    def wake_all(self) -> None:
        """Wake everybody: announcements may have been missed."""
        self.wake(tuple(self._watches))
