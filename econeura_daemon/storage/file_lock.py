"""A lock beside the database file, so that one process at most writes to it."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from econeura_daemon.core.errors import StateDirectoryHeldError, StoreUnavailableError
from econeura_daemon.core.owners import give_to_owner_of


def lock_path(database: Path) -> Path:
    """Return the lock's own file: a lock on the database itself would meet SQLite's locks."""
    return database.with_name(database.name + ".lock")


@contextmanager
def hold_file(database: Path) -> Generator[None]:
    """Hold the lock of ``database`` for the length of the block; the kernel frees it when the process dies.

    Raises `StateDirectoryHeldError` if another process holds it, `StoreUnavailableError` if there is no way
    to lock.
    """
    path = lock_path(database)
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        raise StoreUnavailableError(
            f"The folder {database.parent} of the database does not exist: create it, or set storage.url "
            "(sqlite:////with/four/slashes is an absolute path)"
        ) from None
    except OSError as error:
        raise StoreUnavailableError(
            f"The database {database} cannot be locked ({error}): check the owner and mode of its folder"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise StateDirectoryHeldError(
                f"The database {database} is in use by process {holder or '?'}: stop that daemon first"
            ) from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass  # who holds it is only told to people; a full disk must not keep us from starting
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    # The folder may be another user's, and we root: no link may lead us to a file of root's.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        give_to_owner_of(path.parent, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
