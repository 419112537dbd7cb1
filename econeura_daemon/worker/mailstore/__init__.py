"""A mail store on the disk: a Maildir, an mbox or a folder of ``.eml`` files, its mails found by Message-ID."""

from econeura_daemon.worker.mailstore.mail_store import READ_LIMIT, MailStore, open_mail_store
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
    "MailStore",
    "MailStoreError",
    "MailStoreUnavailableError",
    "MailTooLargeError",
    "MailUnreadableError",
    "MessageNotFoundError",
    "Outcome",
    "Statistics",
    "StoredMail",
    "open_mail_store",
    "watch",
]
