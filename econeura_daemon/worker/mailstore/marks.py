"""What was done with which mail, by Message-ID: a file of lines in the store, which all workers of the store share.

It lies in the store and not with a worker: a mail may be given to another worker when the first one dies, and that one
must know that it was forwarded. A line is written at once and is on the disk before `note` returns; half a line, which
a power failure leaves, is passed over.
"""

import fcntl
import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import attrs

from econeura_daemon.worker.mailstore.locking import try_lock
from econeura_daemon.worker.mailstore.model import MailStoreUnavailableError

_GATE = 1 << 60
"""The byte, far behind the end, whose lock is held for writing a line."""
_PATIENCE = 10.0
_WORTH_REWRITING = 1024 * 1024
"""Bytes from which on a file is rewritten when most of its lines say nothing any more."""


class Sending(StrEnum):
    """How far a mail is on its way to one address."""

    STARTED = "started"
    SENT = "sent"
    REFUSED = "refused"
    POSTPONED = "postponed"
    UNKNOWN = "unknown"


@attrs.define
class _Sent:
    state: Sending
    at: int
    """Where its line begins; whoever sends has that byte locked, so that a dead one shows."""


class Marks:
    """The marks of a store. Its methods are called by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._read_to = 0
        self._lines = 0
        self._processed: set[str] = set()
        self._sendings: dict[tuple[str, str], _Sent] = {}

    @property
    def processed(self) -> int:
        """How many ids are marked as processed."""
        return len(self._processed)

    def is_processed(self, message_id: str) -> bool:
        """Whether the mail is done with."""
        return message_id in self._processed

    def refresh(self) -> None:
        """Read what others have noted. Raises OSError."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._forget()
            return
        if (status.st_dev, status.st_ino) != self._identity or status.st_size < self._read_to:
            self._forget()
            self._identity = (status.st_dev, status.st_ino)
        if status.st_size == self._read_to:
            return
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._take(line, self._read_to)
                self._read_to += len(line)

    def note_processed(self, message_id: str) -> None:
        """Mark the mail as processed, for good. Raises OSError."""
        self.refresh()
        if message_id not in self._processed:
            self._write({"id": message_id, "processed": True})

    def state_of(self, message_id: str, address: str) -> tuple[Sending, bool] | None:
        """Return how far the mail is on its way to ``address``, and whether somebody is sending it at this moment."""
        self.refresh()
        sent = self._sendings.get((message_id, address))
        if sent is None:
            return None
        return sent.state, sent.state is Sending.STARTED and self._is_locked(sent.at)

    def note_sending(self, message_id: str, address: str, state: Sending) -> None:
        """Note how far it is. Raises OSError."""
        self._write({"id": message_id, "to": address, "sending": state.value})

    @contextmanager
    def sending(self, message_id: str, address: str) -> Generator[None]:
        """Note that it is being sent; for the length of the block others see that we live."""
        at = self._write({"id": message_id, "to": address, "sending": Sending.STARTED.value})
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            try_lock(descriptor, fcntl.F_WRLCK, at, 1)
            yield
        finally:
            os.close(descriptor)

    def _write(self, line: dict[str, object]) -> int:
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        descriptor = self._open()
        try:
            at = os.fstat(descriptor).st_size
            if at and os.pread(descriptor, 1, at - 1) != b"\n":
                text = b"\n" + text
                at += 1
            os.write(descriptor, text)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.refresh()
        return at

    def _open(self) -> int:
        """Open the file to append to it, as the only one who does."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            descriptor = os.open(
                self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            if try_lock(descriptor, fcntl.F_WRLCK, _GATE, 1) and _is_at(descriptor, self._path):
                return descriptor
            os.close(descriptor)  # another one writes, or it was rewritten in the meantime
            time.sleep(0.005)
        raise MailStoreUnavailableError(f"{self._path} is locked by another program")

    def _is_locked(self, at: int) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return not try_lock(descriptor, fcntl.F_WRLCK, at, 1)
        finally:
            os.close(descriptor)

    def _take(self, line: bytes, at: int) -> None:
        try:
            said = json.loads(line)
            message_id = said["id"]
            if said.get("processed"):
                self._processed.add(message_id)
            if "sending" in said:
                self._sendings[message_id, said["to"]] = _Sent(Sending(said["sending"]), at)
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # half a line
        self._lines += 1

    def _forget(self) -> None:
        self._identity = None
        self._read_to = self._lines = 0
        self._processed.clear()
        self._sendings.clear()


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
