"""What a mail store holds, what can be done with it, and what can go wrong."""

from datetime import datetime
from enum import StrEnum

import attrs

from econeura_daemon.core.errors import EconeuraError, NotFoundError

INBOX = "INBOX"
ARCHIVE = "Archive"


class Kind(StrEnum):
    """How mails lie on the disk; ``AUTO`` looks and sees."""

    AUTO = "auto"
    MAILDIR = "maildir"
    MBOX = "mbox"
    EML = "eml"


class Action(StrEnum):
    """What can be done with a mail: put it into the folder of its category, into the archive, or send it on."""

    NONE = "none"
    CATEGORIZE = "categorize"
    ARCHIVE = "archive"
    FORWARD = "forward"


class Outcome(StrEnum):
    """What became of an action.

    ``ALREADY`` was done before, ``NOT_CONFIGURED`` lacks a mail server or an address to forward to,
    ``REFUSED`` was refused for good and ``RETRY`` for now, ``UNKNOWN``: somebody died while the mail was being sent.
    """

    DONE = "done"
    ALREADY = "already"
    NOT_CONFIGURED = "not_configured"
    REFUSED = "refused"
    RETRY = "retry"
    UNKNOWN = "unknown"


@attrs.frozen
class StoredMail:
    """A mail in the store: its id without angle brackets, its folder, its size in bytes, and when it arrived."""

    message_id: str
    folder: str
    size: int
    arrived_at: datetime


@attrs.frozen
class Changes:
    """Message ids that a scan found new, and those that are in no folder any more."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


@attrs.frozen(kw_only=True)
class Done:
    """What became of ``action``; ``folder`` is where the mail lies now, ``reason`` says more about what failed."""

    message_id: str
    action: Action
    outcome: Outcome
    folder: str | None = None
    reason: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether another attempt would change nothing."""
        return self.outcome is not Outcome.RETRY


@attrs.frozen(kw_only=True)
class Statistics:
    """Counts; ``unreadable`` are files that could not be opened as mails, ``scan_seconds`` the last scan's."""

    kind: Kind
    mails: int
    folders: int
    derived_ids: int
    duplicates: int
    unreadable: int
    processed: int
    scans: int
    scan_seconds: float


class MailStoreError(EconeuraError):
    """The mail store could not do it."""


class MailStoreUnavailableError(MailStoreError):
    """The folder or file is missing, may not be read, or is locked by another program for too long."""


class MailUnreadableError(MailStoreError):
    """This one mail cannot be read: its permissions, or a disk that fails."""


class MailTooLargeError(MailStoreError):
    """The mail is larger than may be read."""


class MessageNotFoundError(NotFoundError):
    """No mail in the store has this Message-ID."""

    def __init__(self, message_id: str) -> None:
        super().__init__("mail", message_id)
