"""The beginning of a mail file: as much as the index needs, and never a link, a pipe or more than a bound."""

import os
import stat
from pathlib import Path

import attrs

from econeura_daemon.worker.mailstore.message_ids import derived_id, id_in

CHUNK = 8192
"""Bytes that are read at once: nearly every header block fits."""
HEAD_LIMIT = 256 * 1024
"""Bytes of a header block that are looked at; what MTAs accept is less (Postfix: header_size_limit 100 KB)."""
BODY_LIMIT = 1024 * 1024
"""Bytes of the body that the id of a mail without an id is made of."""


@attrs.frozen
class Head:
    """What the index keeps of a mail; ``arrived_ns`` is its file's time of change since the epoch."""

    message_id: str
    is_derived: bool
    size: int
    arrived_ns: int


def open_mail(path: Path | str) -> int:
    """Open a mail for reading and return the descriptor.

    Raises OSError; ELOOP for a symbolic link, which could lead out of the store. A pipe does not hang.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    return descriptor


def head_of(path: Path | str) -> Head:
    """Read the head of a file. Raises OSError."""
    descriptor = open_mail(path)
    try:
        status = os.fstat(descriptor)
        text = os.read(descriptor, CHUNK)
        end = end_of_head(text)
        while end < 0 and len(text) < HEAD_LIMIT and (more := os.read(descriptor, CHUNK)):
            end = end_of_head(text + more)
            text += more
        head = text[:end] if end >= 0 else text
        found = id_in(head)
        if found:
            return Head(found, is_derived=False, size=status.st_size, arrived_ns=status.st_mtime_ns)
        body = os.pread(descriptor, BODY_LIMIT, len(head))
        return Head(
            derived_id(head, body), is_derived=True, size=status.st_size, arrived_ns=status.st_mtime_ns
        )
    finally:
        os.close(descriptor)


def end_of_head(text: bytes) -> int:
    """Return where the blank line after the header block begins, -1 if it is not in ``text``."""
    if text.startswith((b"\n", b"\r\n")):
        return 0
    ends = [end for end in (text.find(b"\n\n"), text.find(b"\n\r\n")) if end >= 0]
    return min(ends) + 1 if ends else -1
