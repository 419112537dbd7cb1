"""Listing a directory only when it has changed, by its time of change."""

import os
from collections.abc import Callable
from pathlib import Path

RESTLESS = 2.0
"""Seconds for which a directory that has changed is listed again: two changes within the same tick of the file
system's clock leave the same time. Dovecot waits as long (maildir_storage: MAILDIR_SYNC_SECS)."""


def names_in(path: Path) -> list[str]:
    """Return the names in a directory that are not hidden. Raises OSError."""
    return [name for name in os.listdir(path) if not name.startswith(".")]  # noqa: PTH208 - paths cost ten times as much


class Listing:
    """The names in a directory, and whether they may have changed since they were read.

    It goes by the monotonic clock, so a file server whose clock is wrong does no harm.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        self.path = path
        self._monotonic = monotonic
        self._changed_ns = -1
        self._restless_until = 0.0

    def has_changed(self) -> bool:
        """Whether it is to be read again. Raises OSError."""
        changed_ns = self.path.stat().st_mtime_ns
        now = self._monotonic()
        if changed_ns != self._changed_ns:
            self._changed_ns = changed_ns
            self._restless_until = now + RESTLESS
            return True
        return now < self._restless_until

    def forget(self) -> None:
        """Have it read again the next time."""
        self._changed_ns = -1
