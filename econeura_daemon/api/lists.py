"""Whole lists of instances as they are answered.

Writing one of 10,000 instances takes the loop some hundredths of a second, and everybody asks at once after a restart:
who comes in the same moment is answered with the same bytes, as long as the registry is at the same index.
"""

from collections.abc import Callable

import trio

from econeura_daemon.registry import Query, Registry

MOMENT = 0.5
"""Seconds: heartbeats, which change no index, are shown so late at most."""

Listed = tuple[int, bytes]
"""The index, and the answer's body."""


class Lists:
    """The answers of the present moment."""

    def __init__(self) -> None:
        self._index = -1
        self._ends = float("-inf")
        self._written: dict[Query, Listed] = {}

    def __repr__(self) -> str:
        return f"<Lists: {len(self._written)} at {self._index}>"

    def of(self, registry: Registry, query: Query, write: Callable[[Query], bytes]) -> Listed:
        """Return the list of ``query``, which ``write`` makes if nobody has asked for it yet."""
        if registry.index != self._index or trio.current_time() >= self._ends:
            self._written.clear()
            self._index, self._ends = registry.index, trio.current_time() + MOMENT
        found = self._written.get(query)
        if found is None:
            found = self._written[query] = registry.index, write(query)
        return found
