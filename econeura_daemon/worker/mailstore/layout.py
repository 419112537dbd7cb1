"""What the store asks of a Maildir, an mbox or a folder of files: find mails, read one, put one elsewhere."""

from pathlib import Path
from typing import Protocol

from econeura_daemon.worker.mailstore.index import Entry, Index
from econeura_daemon.worker.mailstore.model import Kind


class Layout(Protocol):
    """How mails lie on the disk. Its methods are called by one thread at a time, but for ``read``."""

    @property
    def kind(self) -> Kind:
        """Which one it is."""
        ...

    @property
    def notes(self) -> Path:
        """Where, in the store, a file of ours is in nobody's way."""
        ...

    @property
    def folders(self) -> int:
        """How many folders there are."""
        ...

    unreadable: int
    """How many files could not be opened as mails."""

    def scan(self, index: Index, *, thorough: bool) -> None:
        """Make the index true; looks only at what has changed, unless it is to be ``thorough``.

        Raises `MailStoreUnavailableError`, and leaves the index as it was, if the store itself is not there.
        """
        ...

    def read(self, entry: Entry, limit: int) -> bytes:
        """Return the mail. Raises FileNotFoundError if it is not where it was, OSError, `MailTooLargeError`."""
        ...

    def put(self, entry: Entry, folder: str) -> bool:
        """Put the mail into ``folder``; no kill at any moment loses it, and what it leaves twice the next scan mends.

        Return False if it is not where it was. Raises OSError.
        """
        ...

    def is_ready(self, entry: Entry) -> bool:
        """Whether the mail may be processed: it is there whole, and no draft."""
        ...
