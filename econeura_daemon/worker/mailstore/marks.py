"""What was done with which mail, by Message-ID: a file of lines in the store, which all workers of the store share.

It lies in the store and not with a worker: a mail may be given to another worker when the first one dies, and that one
must know that it was forwarded. A line is written at once and is on the disk before `note` returns; half a line, which
a power failure leaves, is passed over.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import attrs

from econeura_daemon.core.owners import give_to_owner_of
from econeura_daemon.worker.mailstore.files import make_folder, sync_directory
from econeura_daemon.worker.mailstore.locking import try_lock
from econeura_daemon.worker.mailstore.model import MailStoreUnavailableError

_GATE = 1 << 60
"""The byte, far behind the end, whose lock is held for writing a line."""
_CLAIMS = _GATE + 1
"""Where the bytes begin whose locks are claims of mails, by a hash of their ids."""
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


@attrs.frozen
class Hold:
    """Somebody is at a mail; the kernel lets it go when the process dies."""

    descriptor: int

    def let_go(self) -> None:
        """Let others see that nobody is at it any more."""
        os.close(self.descriptor)


class Marks:
    """The marks of a store. Its methods are called by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._read_to = 0
        self._lines = 0
        self._processed: set[str] = set()
        self._filing: set[str] = set()
        self._sendings: dict[tuple[str, str], _Sent] = {}

    @property
    def processed(self) -> int:
        """How many ids are marked as processed."""
        return len(self._processed)

    def is_processed(self, message_id: str) -> bool:
        """Whether the mail is done with."""
        return message_id in self._processed

    def is_filing(self, message_id: str) -> bool:
        """Whether it was begun to file a mail that is not done with: the inbox may not have it any more."""
        return message_id in self._filing and message_id not in self._processed

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

    def note_processed(self, message_ids: Iterable[str]) -> None:
        """Mark mails as processed, for good. Raises OSError."""
        self.refresh()
        self._note("processed", [one for one in message_ids if one not in self._processed])

    def note_filing(self, message_id: str) -> None:
        """Mark a mail as one that is taken out of the inbox and not done with yet. Raises OSError."""
        self.refresh()
        if message_id not in self._filing and message_id not in self._processed:
            self._note("filing", [message_id])

    def claim(self, message_id: str) -> Hold | None:
        """Take a mail that is to be processed; None if it is by now, or another worker has taken it. Raises OSError."""
        digest = hashlib.blake2b(message_id.encode(errors="surrogatepass"), digest_size=5).digest()
        descriptor = self._open()
        try:
            is_free = try_lock(descriptor, fcntl.F_WRLCK, _CLAIMS + int.from_bytes(digest), 1)
            try_lock(descriptor, fcntl.F_UNLCK, _GATE, 1)
            self.refresh()
        except BaseException:
            os.close(descriptor)
            raise
        if is_free and message_id not in self._processed:
            return Hold(descriptor)
        os.close(descriptor)
        return None

    def begin_sending(self, message_id: str, address: str) -> "Sending | Hold":
        """Note that the mail is being sent; return the hold, to be let go when it is noted how that ended.

        Return how far it is, instead, if it was sent, is being sent, or if nobody knows: who sent it died.
        """
        with self._held() as descriptor:
            self.refresh()
            sent = self._sendings.get((message_id, address))
            if sent is not None and sent.state is Sending.STARTED:
                if self._is_locked(sent.at):
                    return Sending.STARTED
                self._write(descriptor, {"id": message_id, "to": address, "sending": Sending.UNKNOWN.value})
                return Sending.UNKNOWN
            if sent is not None and sent.state in {Sending.SENT, Sending.UNKNOWN}:
                return sent.state
            at = self._write(descriptor, {"id": message_id, "to": address, "sending": Sending.STARTED.value})
            hold = Hold(os.open(self._path, os.O_RDWR | os.O_CLOEXEC))
            try_lock(hold.descriptor, fcntl.F_WRLCK, at, 1)
            return hold

    def note_sending(self, message_id: str, address: str, state: Sending) -> None:
        """Note how it ended. Raises OSError."""
        with self._held() as descriptor:
            self._write(descriptor, {"id": message_id, "to": address, "sending": state.value})

    def shrink(self, is_there: Callable[[str], bool]) -> None:
        """Leave out the mails that are not there any more, if that is most of a large file. Raises OSError.

        Nothing happens while a mail is being sent: the lock that shows it would be lost.
        """
        self.refresh()
        kept = {message_id for message_id in self._processed | self._filing if is_there(message_id)}
        if self._read_to < _WORTH_REWRITING or 2 * (len(kept) + len(self._sendings)) > self._lines:
            return
        with self._held() as descriptor:
            self.refresh()
            other = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if not try_lock(other, fcntl.F_WRLCK, 0, _GATE):
                    return
                there = filter(is_there, self._processed)
                lines = [_line({"id": message_id, "processed": True}) for message_id in there]
                begun = filter(is_there, self._filing - self._processed)
                lines += [_line({"id": message_id, "filing": True}) for message_id in begun]
                lines += [
                    _line({"id": message_id, "to": address, "sending": sent.state.value})
                    for (message_id, address), sent in self._sendings.items()
                ]
                new = self._path.with_name(f"{self._path.name}.new")
                with new.open("wb") as file:
                    os.fchmod(file.fileno(), os.fstat(descriptor).st_mode & 0o777)
                    give_to_owner_of(self._path.parent, file.fileno())
                    file.writelines(lines)
                    file.flush()
                    os.fsync(file.fileno())
                new.rename(self._path)
                sync_directory(self._path.parent)
            finally:
                os.close(other)
        self.refresh()

    def _note(self, what: str, message_ids: Iterable[str]) -> None:
        said: list[dict[str, object]] = [{"id": message_id, what: True} for message_id in message_ids]
        if said:
            with self._held() as descriptor:
                self._write(descriptor, *said)

    def _write(self, descriptor: int, *said: dict[str, object]) -> int:
        text = b"".join(map(_line, said))
        at = os.fstat(descriptor).st_size
        if at and os.pread(descriptor, 1, at - 1) != b"\n":
            text = b"\n" + text
            at += 1
        os.write(descriptor, text)
        os.fsync(descriptor)
        self.refresh()
        return at

    @contextmanager
    def _held(self) -> Generator[int]:
        """Open the file to append to it, as the only one who does."""
        descriptor = self._open()
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        if not self._path.parent.is_dir():
            make_folder(self._path.parent, self._path.parent.parent, mode=0o700)
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            descriptor = os.open(
                self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            give_to_owner_of(self._path.parent, descriptor)
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
                self._filing.discard(message_id)
            if said.get("filing"):
                self._filing.add(message_id)
            if "sending" in said:
                self._sendings[message_id, said["to"]] = _Sent(Sending(said["sending"]), at)
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # half a line
        self._lines += 1

    def _forget(self) -> None:
        self._identity = None
        self._read_to = self._lines = 0
        self._processed.clear()
        self._filing.clear()
        self._sendings.clear()


def _line(said: dict[str, object]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
