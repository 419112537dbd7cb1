"""Taking mails out of an mbox in place, so that no kill and no power failure loses one.

A new file in its place would be simpler, but an MTA that has opened the old one and waits for its lock would then
append to a file that nobody sees. So what follows the first gap is written beside the mailbox first, as one file that
is there whole or not at all; then it is copied into place, and the mailbox cut off behind it.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from econeura_daemon.worker.mailstore.files import sync_directory

_CHUNK = 1024 * 1024

_log = logging.getLogger(__name__)


@attrs.frozen
class _Plan:
    """From ``start`` on the file gets ``length`` bytes and ends there; it had ``size``, and ``rest`` behind those."""

    device: int
    inode: int
    start: int
    length: int
    size: int
    rest: str


def take_out(descriptor: int, gaps: Sequence[tuple[int, int]], plan: Path) -> None:
    """Remove these ranges, in order, from the open and locked mailbox; ``plan`` is a path beside it.

    Raises OSError; the next `finish` goes on then.
    """
    size = os.fstat(descriptor).st_size
    kept: list[tuple[int, int]] = []
    for (_, begin), (end, _) in zip(gaps, [*gaps[1:], (size, size)], strict=True):
        kept.append((begin, end))
    _commit(descriptor, gaps[0][0], kept, plan=plan)
    _apply(descriptor, plan)


def finish(descriptor: int, plan: Path) -> None:
    """Finish what a process that was killed had begun in the open and locked mailbox. Raises OSError."""
    try:
        made, offset = _read(plan)
    except FileNotFoundError:
        return
    status = os.fstat(descriptor)
    is_whole = (
        status.st_size >= made.size and _digest(descriptor, made.start + made.length, made.size) == made.rest
    )
    if (status.st_dev, status.st_ino) == (made.device, made.inode) and is_whole:
        if status.st_size > made.size:  # mail has come in since
            with plan.open("rb") as before:
                before.seek(offset)
                data = before.read(made.length)
            _commit(descriptor, made.start, [(made.size, status.st_size)], plan=plan, before=data)
        _apply(descriptor, plan)
        return
    if _is_done(descriptor, made, plan, offset):
        plan.unlink()
        return
    aside = plan.with_name(f"kept.{plan.name}.{status.st_mtime_ns}")
    plan.rename(aside)
    _log.error(
        "another program has rewritten the mailbox while it was unfinished; its end was kept in %s", aside
    )


def _commit(
    descriptor: int, start: int, kept: Sequence[tuple[int, int]], *, plan: Path, before: bytes = b""
) -> None:
    """Write the plan by which ``before`` and the kept ranges stand at ``start``, and nothing behind them."""
    size = os.fstat(descriptor).st_size
    length = len(before) + sum(end - begin for begin, end in kept)
    status = os.fstat(descriptor)
    made = _Plan(status.st_dev, status.st_ino, start, length, size, _digest(descriptor, start + length, size))
    new = plan.with_name(f"{plan.name}.new")
    with new.open("wb") as file:
        file.write(json.dumps(attrs.asdict(made)).encode() + b"\n")
        file.write(before)
        for begin, end in kept:
            for part in _parts(descriptor, begin, end):
                file.write(part)
        file.flush()
        os.fsync(file.fileno())
    new.rename(plan)
    sync_directory(plan.parent)


def _apply(descriptor: int, plan: Path) -> None:
    made, offset = _read(plan)
    with plan.open("rb") as file:
        file.seek(offset)
        at = made.start
        while part := file.read(_CHUNK):
            write_at(descriptor, part, at)
            at += len(part)
    os.fsync(descriptor)
    os.ftruncate(descriptor, at)
    os.fsync(descriptor)
    plan.unlink()
    sync_directory(plan.parent)


def write_at(descriptor: int, content: bytes, at: int) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, at)
        view = view[written:]
        at += written


def _read(plan: Path) -> tuple[_Plan, int]:
    with plan.open("rb") as file:
        made = _Plan(**json.loads(file.readline()))
        return made, file.tell()


def _is_done(descriptor: int, made: _Plan, plan: Path, offset: int) -> bool:
    """Whether the mailbox has what it was to get, and was cut off."""
    with plan.open("rb") as file:
        file.seek(offset)
        at = made.start
        for part in iter(lambda: file.read(_CHUNK), b""):
            if os.pread(descriptor, len(part), at) != part:
                return False
            at += len(part)
    return True


def _digest(descriptor: int, begin: int, end: int) -> str:
    digest = hashlib.sha256()
    for part in _parts(descriptor, begin, end):
        digest.update(part)
    return digest.hexdigest()


def _parts(descriptor: int, begin: int, end: int) -> Iterator[bytes]:
    while begin < end:
        part = os.pread(descriptor, min(_CHUNK, end - begin), begin)
        if not part:
            raise OSError("the mailbox was cut off while it was locked")
        yield part
        begin += len(part)
