"""Putting mails of an mbox into the files of other folders: first the copy, later the original goes.

A line in the file ``filed`` says what is to be copied where, before a byte of it is written; the original is taken out
once the copy is on the disk, many at a time, for the file is rewritten from the first gap on. Whoever is killed leaves
a line, by which the next one goes on. Programs may note ``Status:`` in a mail meanwhile; it stays the same mail.
"""

import fcntl
import json
import os
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import attrs

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.owners import give_to_owner_of
from econeura_daemon.worker.mailstore.files import make_folder, sync_directory
from econeura_daemon.worker.mailstore.index import Entry
from econeura_daemon.worker.mailstore.locking import PATIENCE, locked_mailbox, readable_mailbox, try_lock
from econeura_daemon.worker.mailstore.mbox_file import Span, raw_mail, spans
from econeura_daemon.worker.mailstore.mbox_rewriting import finish, take_out, write_at
from econeura_daemon.worker.mailstore.message_ids import content_digest
from econeura_daemon.worker.mailstore.model import MailStoreUnavailableError


@attrs.frozen
class Filed:
    """A mail of the file ``source`` whose copy stands, or is to stand, at ``start`` in the file ``target``."""

    message_id: str
    digest: str
    source: str
    target: str
    start: int
    length: int
    gap: str
    """What stands before the copy, if the file does not end in a blank line."""


class Filing:
    """What was copied from one file of the mailbox to another and is still in both."""

    def __init__(self, inbox: Path, beside: Path, clock: Clock) -> None:
        self._inbox = inbox
        self._beside = beside
        self._path = beside / "filed"
        self._clock = clock
        self._lines: list[Filed] = []
        self._lines_of: tuple[int, ...] = ()

    def waiting(self) -> list[Filed]:
        """Return what is in both files. Raises OSError."""
        try:
            with self._path.open("rb") as file:
                return self._read(file)
        except FileNotFoundError:
            return []

    def is_unfinished(self) -> bool:
        """Whether a mailbox is rewritten, or somebody was killed doing so. Raises OSError."""
        return any(self._plan(path).exists() for path in self._mailboxes())

    def copy(self, entry: Entry, target: Path) -> Filed | None:
        """Copy the mail to ``target``; return None if it is not where it was. Raises OSError."""
        if Path(entry.place).exists() and not os.access(entry.place, os.W_OK):
            raise PermissionError(f"{entry.place} may not be written to, so nothing can be taken out of it")
        with self._held() as journal:
            self._settle(journal)
            waiting = self._read(journal)
            try:
                with readable_mailbox(Path(entry.place), self._clock) as descriptor:
                    raw = raw_mail(descriptor, entry)
            except FileNotFoundError:
                return None
            digest = content_digest(raw)
            if any((filed.source, filed.digest) == (entry.place, digest) for filed in waiting):
                return None  # by another process; it is taken out by the next scan
            _create(target)
            with locked_mailbox(target, self._clock) as descriptor:
                size = os.fstat(descriptor).st_size
                gap = _gap(os.pread(descriptor, 4, max(0, size - 4)))
                copy = _whole(raw)
                filed = Filed(
                    entry.message_id, digest, entry.place, str(target), size + len(gap), len(copy), gap
                )
                self._append(journal, filed)
                write_at(descriptor, gap.encode() + copy, size)
                os.fsync(descriptor)
            return filed

    def take_out(self) -> None:
        """Take every original out whose copy is there. Raises OSError, `MailStoreUnavailableError`."""
        with self._held() as journal:
            self._settle(journal)
            waiting = self._read(journal)
            sources = {Path(filed.source) for filed in waiting}
            sources.update(path for path in self._mailboxes() if self._plan(path).exists())
            for source in sorted(sources):
                here = [filed for filed in waiting if filed.source == str(source)]
                try:
                    with locked_mailbox(source, self._clock) as descriptor:
                        finish(descriptor, self._plan(source))
                        if gaps := self._gaps(descriptor, here):
                            take_out(descriptor, gaps, self._plan(source))
                except FileNotFoundError:
                    continue
            journal.truncate(0)
            os.fsync(journal.fileno())

    def _gaps(self, descriptor: int, here: Iterable[Filed]) -> list[tuple[int, int]]:
        by_digest = {filed.digest: filed for filed in here}
        ids = {filed.message_id for filed in here}
        gaps = []
        with open(descriptor, "rb", closefd=False) as file:
            for span in list(spans(file, 0)) if by_digest else ():
                if span.head.message_id not in ids:
                    continue
                filed = by_digest.get(content_digest(_raw(descriptor, span)))
                if filed is not None and self._has_copy(filed):
                    gaps.append((span.start, span.end))
        return gaps

    def _has_copy(self, filed: Filed) -> bool:
        try:
            with readable_mailbox(Path(filed.target), self._clock) as descriptor:
                if content_digest(os.pread(descriptor, filed.length, filed.start)) == filed.digest:
                    return True
                return _search(descriptor, filed) is not None
        except FileNotFoundError:
            return False

    def _settle(self, journal: BinaryIO) -> None:
        """Finish the last copy, if somebody was killed while writing it."""
        waiting = self._read(journal)
        if not waiting:
            return
        last = waiting[-1]
        target = Path(last.target)
        with locked_mailbox(target, self._clock) as descriptor:
            if os.fstat(descriptor).st_size >= last.start + last.length:
                return
            raw = self._original(last)
            begin = last.start - len(last.gap)
            copy = b"" if raw is None else last.gap.encode() + _whole(raw)
            if copy.startswith(os.pread(descriptor, len(copy), begin)):  # nobody else has written there since
                write_at(descriptor, copy, begin)
                os.fsync(descriptor)

    def _original(self, filed: Filed) -> bytes | None:
        try:
            with readable_mailbox(Path(filed.source), self._clock) as descriptor:
                span = _search(descriptor, filed)
                return None if span is None else _raw(descriptor, span)
        except FileNotFoundError:
            return None

    def _read(self, journal: BinaryIO) -> list[Filed]:
        """Return the lines; they are parsed once, for there may be thousands."""
        if _state(journal) != self._lines_of:
            journal.seek(0)
            self._lines = [Filed(**json.loads(line)) for line in journal if line.endswith(b"\n")]
            self._lines_of = _state(journal)
        return self._lines

    def _append(self, journal: BinaryIO, filed: Filed) -> None:
        journal.seek(0, os.SEEK_END)
        journal.write(json.dumps(attrs.asdict(filed), separators=(",", ":")).encode() + b"\n")
        journal.flush()
        os.fsync(journal.fileno())
        self._lines.append(filed)
        self._lines_of = _state(journal)

    def _plan(self, mailbox: Path) -> Path:
        return self._beside / f"rewrite.{mailbox.name}"

    def _mailboxes(self) -> list[Path]:
        return [self._inbox, *self._beside.glob("*.mbox")]

    @contextmanager
    def _held(self) -> Generator[BinaryIO]:
        """Open the lines for us alone. A line that is not whole was not followed by anything: it goes."""
        make_folder(self._beside, self._inbox.parent, mode=0o700)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+b") as journal:
            give_to_owner_of(self._beside, descriptor)
            until = time.monotonic() + PATIENCE
            while not try_lock(descriptor, fcntl.F_WRLCK):
                if time.monotonic() > until:
                    raise MailStoreUnavailableError(f"{self._path} is locked by another program")
                time.sleep(0.005)
            if not _ends_whole(descriptor):
                journal.truncate(journal.read().rfind(b"\n") + 1)
            yield journal


def _ends_whole(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _state(journal: BinaryIO) -> tuple[int, ...]:
    status = os.fstat(journal.fileno())
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _create(target: Path) -> None:
    try:
        descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    give_to_owner_of(target.parent, descriptor)
    os.close(descriptor)
    sync_directory(target.parent)


def _search(descriptor: int, filed: Filed) -> Span | None:
    with open(descriptor, "rb", closefd=False) as file:
        for span in list(spans(file, 0)):
            if (
                span.head.message_id == filed.message_id
                and content_digest(_raw(descriptor, span)) == filed.digest
            ):
                return span
    return None


def _raw(descriptor: int, span: Span) -> bytes:
    return os.pread(descriptor, span.end - span.start, span.start)


def _whole(raw: bytes) -> bytes:
    """Return the mail with the blank line behind it that the last one of a file may lack."""
    end = b"\r\n" if raw.endswith(b"\r\n") else b"\n"
    if not raw.endswith(b"\n"):
        raw += end
    return raw if raw.endswith((b"\n\n", b"\n\r\n")) else raw + end


def _gap(end: bytes) -> str:
    """Return what a file that ends so needs before another mail."""
    if not end or end.endswith((b"\n\n", b"\n\r\n")):
        return ""
    return "\n" if end.endswith(b"\n") else "\n\n"
