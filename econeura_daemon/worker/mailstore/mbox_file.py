"""One file in mbox format (RFC 4155): which mails are in it, and where each of them begins and ends.

A mail begins with a ``From `` line that stands at the file's beginning or after a blank line and ends in a date; a
``From `` in a body that the writer did not quote looks different nearly always. Lines that were quoted as ``>From ``
stay so: nothing in the file says which were.
"""

import calendar
import os
import re
from collections.abc import Iterator
from email.utils import parsedate
from pathlib import Path
from typing import BinaryIO

import attrs

from econeura_daemon.core.clock import Clock
from econeura_daemon.worker.mailstore.files import check_size
from econeura_daemon.worker.mailstore.heads import BODY_LIMIT, HEAD_LIMIT, Head
from econeura_daemon.worker.mailstore.index import Entry, Index
from econeura_daemon.worker.mailstore.locking import readable_mailbox
from econeura_daemon.worker.mailstore.message_ids import derived_id, id_in

_FROM = re.compile(
    rb"From (?:.* )?(\w{3} +\w{3} +\d{1,2} +\d{1,2}:\d\d(?::\d\d)? .*\d{4})[^\r\n]{0,32}\r?\n?\Z"
)
_LINE = 64 * 1024
_FINGERPRINT = 512


@attrs.frozen
class Span:
    """Where a mail lies in the file, its ``From `` line and the blank line after it with it, and what its head says."""

    start: int
    end: int
    head: Head


class MboxFile:
    """What is known of one file."""

    def __init__(self, path: Path, folder: str, clock: Clock) -> None:
        self.path = path
        self.folder = folder
        self.entries: list[Entry] = []
        self._clock = clock
        self._seen: tuple[int, ...] = ()
        self._fingerprint = (0, b"")

    def has_changed(self) -> bool:
        """Whether the file is another one than when it was read. Raises OSError."""
        return _identity(self.path.lstat()) != self._seen

    def scan(self, index: Index, *, thorough: bool) -> None:
        """Make the index true. Only what was appended is read, if what stands before it looks as it did.

        Raises OSError and `MailStoreUnavailableError`.
        """
        if not thorough and not self.has_changed():
            return
        with (
            readable_mailbox(self.path, self._clock) as descriptor,
            open(descriptor, "rb", closefd=False) as file,
        ):
            seen = _identity(os.fstat(descriptor))
            start = 0
            if self.entries and not thorough and self._has_grown(seen, descriptor):
                start = self.entries[-1].position  # the last one may have been there in part
                index.remove(self.entries.pop())
            else:
                self.clear(index)
            for span in spans(file, start):
                entry = Entry(span.head, self.folder, str(self.path), span.start)
                self.entries.append(entry)
                index.add(entry)
            last = self.entries[-1].position if self.entries else 0
            self._fingerprint = (last, os.pread(descriptor, _FINGERPRINT, last))
            self._seen = seen

    def clear(self, index: Index) -> None:
        """Forget all mails."""
        for entry in self.entries:
            index.remove(entry)
        self.entries.clear()
        self._seen = ()

    def read(self, entry: Entry, limit: int) -> bytes:
        """Return the mail as it stands in the file, without its ``From `` line and the blank line after it.

        Raises FileNotFoundError if something else is there by now, OSError, `MailTooLargeError`.
        """
        check_size(entry.head.size, limit)
        with readable_mailbox(self.path, self._clock) as descriptor:
            return without_envelope(raw_mail(descriptor, entry))

    def is_settled(self, entry: Entry, settled_ms: float) -> bool:
        """Whether nobody can be appending to this mail: it is not the last, or the file has stood still."""
        return (
            not self.entries
            or entry is not self.entries[-1]
            or not self._seen
            or self._seen[3] / 1e6 < settled_ms
        )

    def _has_grown(self, seen: tuple[int, ...], descriptor: int) -> bool:
        if seen[:2] != self._seen[:2] or seen[2] < self._seen[2]:
            return False
        last, text = self._fingerprint
        return os.pread(descriptor, len(text), last) == text


def raw_mail(descriptor: int, entry: Entry) -> bytes:
    """Return all bytes of the mail in the open file. Raises FileNotFoundError if they are another mail's."""
    raw = os.pread(descriptor, entry.head.size, entry.position)
    with open(descriptor, "rb", closefd=False) as file:
        span = next(spans(file, entry.position, entry.position + entry.head.size), None)
    if span is None or span.head.message_id != entry.message_id or len(raw) != entry.head.size:
        raise FileNotFoundError(f"{entry.place} has changed")
    return raw


def without_envelope(raw: bytes) -> bytes:
    """Return the mail in ``raw``: neither the first line nor a blank one at the end."""
    mail = raw[raw.find(b"\n") + 1 :]
    for end in (b"\r\n", b"\n"):
        if mail.endswith((b"\n" + end, end)) and mail[: -len(end)].endswith(b"\n"):
            return mail[: -len(end)]
    return mail


def spans(file: BinaryIO, start: int, stop: int | None = None) -> Iterator[Span]:
    """Return the mails from ``start`` on, where one begins, to ``stop`` or the end."""
    file.seek(start)
    at = begin = start
    arrived_ns = 0
    head: list[bytes] = []
    head_size = 0
    in_head = found = False
    blank = whole = True  # what came before this line: a blank line; a line to its end
    while line := file.readline(_LINE):
        if stop is not None and at >= stop:
            break
        if whole and blank and line.startswith(b"From ") and (match := _FROM.match(line)):
            if found:
                yield _span(file, begin, at, head, arrived_ns)
            found, in_head, begin = True, True, at
            head, head_size = [], 0
            arrived_ns = _arrived_ns(match[1])
        elif in_head:
            in_head = not (whole and line in {b"\n", b"\r\n"}) and head_size < HEAD_LIMIT
            head_size += len(line)
            head.append(line)
        blank = whole and line in {b"\n", b"\r\n"}
        whole = line.endswith(b"\n")
        at += len(line)
    if found:
        yield _span(file, begin, at, head, arrived_ns)


def _span(file: BinaryIO, begin: int, end: int, lines: list[bytes], arrived_ns: int) -> Span:
    head = b"".join(lines)
    size = end - begin
    if found := id_in(head):
        return Span(begin, end, Head(found, is_derived=False, size=size, arrived_ns=arrived_ns))
    raw = os.pread(file.fileno(), min(size, HEAD_LIMIT + BODY_LIMIT), begin)
    body = without_envelope(raw)[len(head) :][:BODY_LIMIT]
    return Span(begin, end, Head(derived_id(head, body), is_derived=True, size=size, arrived_ns=arrived_ns))


def _arrived_ns(date: bytes) -> int:
    parsed = parsedate(date.decode("latin-1"))
    if parsed is None:
        return 0
    try:
        return max(0, calendar.timegm(parsed)) * 1_000_000_000
    except (ValueError, OverflowError):
        return 0


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
