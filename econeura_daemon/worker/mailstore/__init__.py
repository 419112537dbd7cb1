"""A mail store on the disk: a Maildir, an mbox or a folder of ``.eml`` files, its mails found by Message-ID."""

from econeura_daemon.worker.mailstore.forwarding import MailServer, Security
from econeura_daemon.worker.mailstore.mail_store import READ_LIMIT, MailStore
from econeura_daemon.worker.mailstore.message_ids import normalised
from econeura_daemon.worker.mailstore.model import (
    ARCHIVE,
    INBOX,
    Action,
    Changes,
    Done,
    Kind,
    MailStoreError,
    MailStoreUnavailableError,
    MailTooLargeError,
    MailUnreadableError,
    MessageNotFoundError,
    Outcome,
    Statistics,
    StoredMail,
)
from econeura_daemon.worker.mailstore.opening import open_mail_store
from econeura_daemon.worker.mailstore.watching import INTERVAL, watch

__all__ = [
    "ARCHIVE",
    "INBOX",
    "INTERVAL",
    "READ_LIMIT",
    "Action",
    "Changes",
    "Done",
    "Kind",
    "MailServer",
    "MailStore",
    "MailStoreError",
    "MailStoreUnavailableError",
    "MailTooLargeError",
    "MailUnreadableError",
    "MessageNotFoundError",
    "Outcome",
    "Security",
    "Statistics",
    "StoredMail",
    "normalised",
    "open_mail_store",
    "watch",
]
