"""Reading a whole mail, and making a change of a directory last."""

import os
from pathlib import Path

from econeura_daemon.worker.mailstore.heads import open_mail
from econeura_daemon.worker.mailstore.model import MailTooLargeError


def read_file(path: Path, limit: int) -> bytes:
    """Return the file's bytes. Raises OSError, and `MailTooLargeError` beyond ``limit`` bytes."""
    with os.fdopen(open_mail(path), "rb") as file:
        check_size(os.fstat(file.fileno()).st_size, limit)
        content = file.read(limit + 1)  # it may grow while it is read
    check_size(len(content), limit)
    return content


def check_size(size: int, limit: int) -> None:
    """Raise `MailTooLargeError` if a mail of ``size`` bytes is larger than ``limit``."""
    if size > limit:
        raise MailTooLargeError(f"The mail has {size} bytes; mails of up to {limit} bytes are read")


def sync_directory(path: Path) -> None:
    """Have what was created, renamed or removed in the directory on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
