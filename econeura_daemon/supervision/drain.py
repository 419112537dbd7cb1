"""Stopping in order: every intake closes at once, then the rungs are joined from the bottom, until a deadline."""

import logging
from collections.abc import Callable

import trio

_log = logging.getLogger(__name__)

HTTP_SHARE = 0.5
"""Of the drain time, at most, goes to HTTP: what stands above it on the ladder has to be joined too."""


class Drain:
    """One daemon's drain. Made on the event loop."""

    def __init__(self, seconds: float) -> None:
        """``seconds``: how long work under way may take to finish."""
        self.seconds = seconds
        self.begun = trio.Event()
        self._deadline = float("inf")
        self._intakes: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return f"<Drain {'begun' if self.begun.is_set() else 'not begun'}, {len(self._intakes)} intakes>"

    def closes(self, intake: Callable[[], object]) -> None:
        """Have ``intake`` called, once, when the drain begins; at once if it has begun."""
        if self.begun.is_set():
            intake()
        else:
            self._intakes.append(intake)

    def begin(self) -> None:
        """Close every intake and start the time, the first time it is called."""
        if self.begun.is_set():
            return
        self._deadline = trio.current_time() + self.seconds
        self.begun.set()
        for intake in reversed(self._intakes):
            try:
                intake()
            except Exception:  # noqa: BLE001 - the others must be closed all the same
                _log.exception("an intake could not be closed")

    def deadline(self) -> float:
        """Return when the drain must be over, on Trio's clock; infinite before it begins."""
        return self._deadline
