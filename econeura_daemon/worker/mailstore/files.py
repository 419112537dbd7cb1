"""Reading a whole mail, making folders that their owner can use, and making a change of a directory last."""

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


def make_folder(path: Path, like: Path, mode: int | None = None) -> None:
    """Create the folder if it is not there: the owner's of ``like``, and with its mode if no other is given.

    Raises OSError; NotADirectoryError for a link, which could lead out of the store.
    """
    status = like.stat()
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if path.is_symlink() or not path.is_dir():
            raise NotADirectoryError(f"{path} is no folder of the store's own") from None
        return
    if os.geteuid() == 0:  # root would leave a folder that the mail server cannot open
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
    path.chmod(status.st_mode & 0o777 if mode is None else mode)  # whatever our umask says


def sync_directory(path: Path) -> None:
    """Have what was created, renamed or removed in the directory on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
