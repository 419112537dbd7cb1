"""Files that tasks write: whole or not at all, and the oldest removed. Everything here is for worker threads."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from econeura_daemon.cron import TaskFailedError
from econeura_daemon.worker.mailstore.files import sync_directory

PARTIAL = ".partial"
"""Behind the name of what is not finished yet."""


def begin(file: Path) -> IO[bytes]:
    """Open what `finish` gives its name. Raises `TaskFailedError`."""
    with saying(file):
        file.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(_partial(file), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "wb")


def finish(file: Path, opened: IO[bytes]) -> None:
    """Have it on the disk, and then under its name. Raises `TaskFailedError`."""
    with saying(file):
        with opened:
            opened.flush()
            os.fsync(opened.fileno())
        _partial(file).replace(file)
        sync_directory(file.parent)


def discard(file: Path) -> None:
    """Remove what is not finished."""
    _partial(file).unlink(missing_ok=True)


def write(file: Path, content: bytes) -> None:
    """Write a file in one step that survives a power cut. Raises `TaskFailedError`."""
    opened = begin(file)
    with saying(file), opened:
        opened.write(content)
        finish(file, opened)


def keep(folder: Path, pattern: str, most: int) -> list[Path]:
    """Remove what was never finished, and all but the newest ``most`` by their names; return those removed."""
    with saying(folder):
        for unfinished in folder.glob(f"*{PARTIAL}"):
            unfinished.unlink(missing_ok=True)
        old = sorted(folder.glob(pattern))[:-most]
        for one in old:
            one.unlink(missing_ok=True)
    return old


def _partial(file: Path) -> Path:
    return file.with_name(file.name + PARTIAL)


@contextmanager
def saying(path: Path) -> Generator[None]:
    """Tell an operating system's error as the task's failure."""
    try:
        yield
    except OSError as error:
        raise TaskFailedError(f"{path} cannot be written: {error.strerror or error}") from error
