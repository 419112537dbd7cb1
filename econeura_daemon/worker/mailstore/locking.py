"""Locks that other programs honour: the kernel's on a file, and ``NAME.lock`` beside a mailbox (Debian policy §11.6).

The kernel's are those of an open file description (fcntl(2), "OFD locks"): they meet the classic ones of MTAs, but are
not lost when another thread of this process closes the same file.
"""

import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.worker.mailstore.model import MailStoreUnavailableError

PATIENCE = 10.0
"""Seconds for which a lock is waited for."""
_PAUSE = 0.05
_STALE = 300.0
"""Seconds after which a lock file counts as left behind; Postfix (stale_lock_time) waits 500, others less."""


def try_lock(descriptor: int, kind: int, start: int = 0, length: int = 0) -> bool:
    """Lock bytes of the file, all by default, as F_WRLCK or F_RDLCK; return False if another has them."""
    try:
        fcntl.fcntl(
            descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
        )
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def locked_mailbox(path: Path, clock: Clock) -> Generator[int]:
    """Open the mailbox to change it while no other program reads or writes; yields the descriptor.

    Raises FileNotFoundError, OSError, and `MailStoreUnavailableError` after `PATIENCE`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        until = time.monotonic() + PATIENCE
        # Both or neither, so that two programs which take them in different orders do not wait for each other.
        while not _lock_both(descriptor, path, clock):
            _wait(path, until)
        try:
            yield descriptor
        finally:
            with suppress(OSError):
                _lock_file(path).unlink()
    finally:
        os.close(descriptor)


@contextmanager
def readable_mailbox(path: Path, clock: Clock) -> Generator[int]:
    """Open the mailbox while no program that locks it writes; yields the descriptor.

    Raises as `locked_mailbox` does.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        until = time.monotonic() + PATIENCE
        while not try_lock(descriptor, fcntl.F_RDLCK) or _is_held(_lock_file(path), clock):
            try_lock(descriptor, fcntl.F_UNLCK)
            _wait(path, until)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(path: Path, until: float) -> None:
    if time.monotonic() > until:
        raise MailStoreUnavailableError(
            f"The mailbox {path} has been locked by another program for {PATIENCE:g} s; "
            f"if none uses it, remove {_lock_file(path)}"
        )
    time.sleep(_PAUSE)


def _lock_both(descriptor: int, path: Path, clock: Clock) -> bool:
    if not try_lock(descriptor, fcntl.F_WRLCK):
        return False
    lock_file = _lock_file(path)
    try:
        if lock_file.exists() and not _is_held(lock_file, clock):
            lock_file.unlink(missing_ok=True)  # one of us at most is here: it has the kernel's lock
        _create_whole(lock_file)
    except FileExistsError:
        try_lock(descriptor, fcntl.F_UNLCK)
        return False
    except PermissionError:
        pass  # a spool folder that is not ours: the MTA goes by the kernel's lock too
    return True


def _create_whole(lock_file: Path) -> None:
    """Create the file with its owner in it, at once: a lock file without one is believed in for minutes."""
    own = lock_file.with_name(f"{lock_file.name}.{os.getpid()}.{threading.get_ident()}")
    own.write_text(f"{os.getpid()}\n{socket.gethostname()}\n")
    try:
        lock_file.hardlink_to(own)
    finally:
        own.unlink()


def _is_held(lock_file: Path, clock: Clock) -> bool:
    """Whether a lock file is there whose owner may be alive; only of a process on this machine can we tell."""
    try:
        words = lock_file.read_text(errors="replace").split()
        age = to_ms(clock.now()) / 1000 - lock_file.stat().st_mtime
    except FileNotFoundError:
        return False
    except OSError:
        return True
    if age > _STALE:
        return False
    if len(words) == 2 and words[0].isdecimal() and words[1] == socket.gethostname():
        try:
            os.kill(int(words[0]), 0)
        except ProcessLookupError:
            return False
        except (PermissionError, OverflowError):
            return True
    return True


def _lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")
