"""Bounds what is kept for clients that send or read slowly, all together: bodies that come, answers that go."""

from econeura_daemon.core.settings import HttpSettings

MIN_TOTAL = 64 * 1024 * 1024
"""Bytes; with a larger ``http.max_body_bytes`` it is twice that."""


class Memory:
    """Bytes, shared out fairly: while they are short, whoever has more than an equal part gets no more.

    So a small body is never refused because others are large, and nobody can take from the others what he
    does not need himself. That those with little may go on costs a few times the total at the very worst.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._total = max(MIN_TOTAL, 2 * settings.max_body_bytes)
        self.used = 0
        """Bytes that are kept."""
        self.sharers = 0
        """Requests that they are kept for."""

    def __repr__(self) -> str:
        return f"<Memory: {self.used} of {self._total} bytes for {self.sharers} requests>"

    def has_room(self, size: int, more: int) -> bool:
        """Tell whether a request that has ``size`` bytes may have some ``more``."""
        sharers = self.sharers + (size == 0)
        return self.used + more <= self._total or (size + more) * sharers <= self._total


class Share:
    """What one request keeps."""

    __slots__ = ("_memory", "size")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.size = 0

    def grow(self, size: int) -> bool:
        """Keep so many bytes more; False, and nothing is changed, if they are not to be had."""
        if not self._memory.has_room(self.size, size):
            return False
        self._change(size)
        return True

    def shrink(self, size: int) -> None:
        """Keep so many bytes less."""
        self._change(-size)

    def close(self) -> None:
        """Keep nothing."""
        self._change(-self.size)

    def _change(self, by: int) -> None:
        had = self.size > 0
        self.size += by
        self._memory.used += by
        self._memory.sharers += (self.size > 0) - had
