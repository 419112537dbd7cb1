"""The state directory: made, checked, locked, and the two identities that hang on it.

Two daemons on one SQLite file would each keep their own idea of what is claimed; the lock refuses the second.
"""

import errno
import fcntl
import logging
import os
import re
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import attrs

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.errors import Flaw, SettingsError, StateDirectoryHeldError, StoreFullError
from econeura_daemon.core.ids import new_id
from econeura_daemon.supervision.ready import remove_ready

LOCK = "daemon.lock"
IDENTITY = "daemon_id"

_SETTING = "daemon.state_dir"
_IDENTITY_FORM = re.compile(r"dmn_[0-9A-Z]{26}")

_log = logging.getLogger(__name__)


@attrs.frozen
class StateDir:
    """A state directory that is ours until the block ends."""

    path: Path
    daemon_id: str
    """Made once, the same over restarts."""
    run_id: str
    """This run of the process."""


@contextmanager
def open_state_dir(path: Path, clock: Clock, rng: Random) -> Generator[StateDir]:
    """Hold the state directory for the length of the block.

    Raises `StateDirectoryHeldError` with the holder's pid, `SettingsError` that says what to do where the
    directory cannot be used, `StoreFullError` where the disk is full.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _warn_if_open_to_all(path)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refusal(path, error) from error
    try:
        _take(path, lock)
        try:
            remove_ready(path)  # of a daemon that was killed: nobody is ready here yet
            daemon_id = _identity(path, clock, rng)
        except OSError as error:
            raise _refusal(path, error) from error
        yield StateDir(path, daemon_id, new_id("run", clock.now(), rng))
    finally:
        # Closing alone would leave the lock with a child forked a moment ago. The file stays: removing it
        # would let a third daemon lock a new one while a second looks at this.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _take(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        raise StateDirectoryHeldError(
            f"the state directory {path} is held by another daemon (pid {holder}); "
            "stop that one, or set another daemon.state_dir"
        ) from None
    except OSError as error:
        raise _refusal(path, error) from error


def _identity(path: Path, clock: Clock, rng: Random) -> str:
    """Return the daemon's id; make it the first time, in one step that survives a power cut."""
    file = path / IDENTITY
    if file.exists():
        found = file.read_text(errors="replace").strip()
        if not _IDENTITY_FORM.fullmatch(found):
            raise SettingsError.at(
                _SETTING,
                f"{file} holds no daemon id; restore it from a backup, or delete it to become a new daemon",
            )
        _probe_writing(path)
        return found
    made = new_id("dmn", clock.now(), rng)
    _write_durably(file, f"{made}\n".encode())
    return made


def _write_durably(file: Path, content: bytes) -> None:
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)
        new.replace(file)
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        new.unlink(missing_ok=True)


def _probe_writing(path: Path) -> None:
    """Make and remove a file: a mount that became read-only shows here, not in the middle of the start."""
    probe = path / f".probe.{os.getpid()}"
    try:
        probe.write_bytes(b"\0")
    finally:
        probe.unlink(missing_ok=True)


def _warn_if_open_to_all(path: Path) -> None:
    if path.stat().st_mode & stat.S_IWOTH:
        _log.warning("the state directory %s can be written by every user; chmod o-w it", path)


def _refusal(path: Path, error: OSError) -> SettingsError | StoreFullError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFullError(f"no space is left for the state directory {path}; free some")
    hint = {
        errno.EACCES: f"give it to the user that runs the daemon (uid {os.geteuid()})",
        errno.EPERM: f"give it to the user that runs the daemon (uid {os.geteuid()})",
        errno.EROFS: "mount it for writing (under systemd: StateDirectory= or ReadWritePaths=)",
        errno.ENOTDIR: "a part of the path is a file; move that away",
        errno.EEXIST: "it is a file; move that away",
        errno.ENOLCK: "its file system cannot lock; choose a local one",
    }.get(error.errno or 0, "choose a directory that this user can write")
    where = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
    return SettingsError(
        [Flaw(_SETTING, f"cannot use {path}: {error.strerror}{where}; {hint}, or set another")]
    )
