"""A clock that rides Trio's: under ``autojump_clock`` both move together."""

from datetime import UTC, datetime, timedelta

import trio

START = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


class TrioClock:
    """`START` plus Trio's time; `step` moves it alone, as somebody who sets the wall clock does."""

    def __init__(self) -> None:
        self._zero = trio.current_time()
        self._offset = timedelta()

    def now(self) -> datetime:
        """Return the present instant."""
        return START + self._offset + timedelta(seconds=trio.current_time() - self._zero)

    def step(self, by: timedelta) -> None:
        """Set the wall clock."""
        self._offset += by
