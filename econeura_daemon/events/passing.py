"""Events that are not stored: who follows the log at that moment hears of them, and nobody afterwards."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from econeura_daemon.events.model import Event
from econeura_daemon.events.patterns import matches_any

KEPT = 16
"""Events for one listener that is busy; of more, the newest are kept."""


class Listener:
    """Whoever listens for the length of a block."""

    def __init__(self, patterns: Sequence[str], wake: Callable[[], object]) -> None:
        self._patterns = patterns
        self._wake = wake
        self._heard: deque[Event] = deque(maxlen=KEPT)

    def hear(self, event: Event) -> None:
        """Take an event if it matches. No pattern: all do."""
        if not self._patterns or matches_any(self._patterns, event.type):
            self._heard.append(event)
            self._wake()

    def take(self) -> list[Event]:
        """Return what was heard since the last time, oldest first."""
        heard = list(self._heard)
        self._heard.clear()
        return heard


class Passing:
    """Tells events to those who listen."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def __repr__(self) -> str:
        return f"<Passing: {len(self._listeners)} listen>"

    def tell(self, event: Event) -> None:
        """Tell everybody, on the event loop."""
        for listener in self._listeners:
            listener.hear(event)

    @contextmanager
    def listen(self, patterns: Sequence[str], wake: Callable[[], object]) -> Generator[Listener]:
        """Listen for the length of the block; ``wake`` is called whenever there is something to take."""
        listener = Listener(patterns, wake)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
