"""A mail store: its mails by Message-ID, and what is done with them.

Everything here is synchronous and may be called from any thread; callers on an event loop use worker threads, but for
`MailStore.statistics`. One lock is held while the index is read or changed, never while a mail is sent.
"""

import threading
from collections.abc import Callable
from heapq import nsmallest

from econeura_daemon.core.clock import Clock, from_ms
from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.worker.mailstore.folder_names import check_folder
from econeura_daemon.worker.mailstore.forwarding import MailServer
from econeura_daemon.worker.mailstore.index import Entry, Index
from econeura_daemon.worker.mailstore.layout import Layout
from econeura_daemon.worker.mailstore.marks import Hold, Marks
from econeura_daemon.worker.mailstore.message_ids import normalised
from econeura_daemon.worker.mailstore.model import (
    ARCHIVE,
    INBOX,
    Action,
    Changes,
    Done,
    Kind,
    MailStoreError,
    MailStoreUnavailableError,
    MailUnreadableError,
    MessageNotFoundError,
    Outcome,
    Statistics,
    StoredMail,
)
from econeura_daemon.worker.mailstore.sending_once import Forwarder

READ_LIMIT = 50 * 1024 * 1024
"""Bytes of the largest mail that is read; MTAs refuse much smaller ones (Postfix: message_size_limit 10 MB)."""
_TRIES = 5
"""How often a mail is looked for again that a mail client moves while we look."""


class MailStore:
    """The mails of one store."""

    def __init__(
        self,
        layout: Layout,
        marks: Marks,
        *,
        server: MailServer | None,
        read_limit: int,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self._layout = layout
        self._marks = marks
        self._read_limit = read_limit
        self._monotonic = monotonic
        self._index = Index()
        self._lock = threading.RLock()
        self._forwarder = Forwarder(server, marks, self._lock, clock)
        self._scans = 0
        self._scan_seconds = 0.0
        self._scanned_at = monotonic()
        self._look_again_at = 0.0

    def __repr__(self) -> str:
        return f"<MailStore: {self._layout.kind}, {len(self._index)} mails>"

    @property
    def silent_for(self) -> float:
        """Seconds since a scan was done."""
        return self._monotonic() - self._scanned_at

    def find(self, message_id: str) -> StoredMail | None:
        """Return the mail with this id, with or without angle brackets; None if there is none.

        An id that is not known is looked for in what has changed since. Raises `MailStoreUnavailableError` if the
        store is not there to be looked at.
        """
        with self._lock:
            entry = self._entry(normalised(message_id))
            return None if entry is None else _shown(entry)

    def read(self, message_id: str) -> bytes:
        """Return the mail's bytes.

        Raises `MessageNotFoundError`, `MailTooLargeError`, `MailUnreadableError`, `MailStoreUnavailableError`.
        """
        wanted = normalised(message_id)
        for tried in range(_TRIES):
            with self._lock:
                entry = self._entry(wanted)
            if entry is None:
                break
            try:
                return self._layout.read(entry, self._read_limit)
            except FileNotFoundError:
                with self._lock:  # a mail client has renamed it, or it is gone
                    self._layout.scan(self._index, thorough=tried > 0)
            except OSError as error:
                raise MailUnreadableError(f"The mail {message_id!r} cannot be read: {error}") from error
        raise MessageNotFoundError(message_id)

    def unprocessed(self, limit: int) -> list[str]:
        """Return the ids of at most ``limit`` mails that came in and are not processed, the oldest first.

        What people have put into folders themselves is theirs: of a Maildir and an mbox only the inbox is gone
        through, of a folder of files everything but the archive. A mail that `act` filed, and whoever asked for it
        died before he noted it as processed, is found wherever it lies.
        """
        with self._lock:
            self._refresh_marks()
            waiting = (
                entry
                for entry in self._index.firsts()
                if (self._is_incoming(entry) or self._marks.is_filing(entry.message_id))
                and not self._marks.is_processed(entry.message_id)
                and self._layout.is_ready(entry)
            )
            oldest = nsmallest(limit, waiting, key=lambda entry: (entry.head.arrived_ns, entry.position))
            return [entry.message_id for entry in oldest]

    def claim(self, message_id: str) -> Hold | None:
        """Take a mail out of `unprocessed` to process it; None if another worker has it, or somebody has processed it.

        Whoever takes it lets go of it afterwards. Raises `MailStoreUnavailableError`.
        """
        with self._lock:
            try:
                return self._marks.claim(normalised(message_id))
            except OSError as error:
                raise MailStoreUnavailableError(f"Nothing can be noted in the store: {error}") from error

    def begin(self) -> None:
        """Read which mails there are. Raises `MailStoreUnavailableError`."""
        self.scan()
        with self._lock:
            self._refresh_marks(shrink=True)

    def scan(self, *, thorough: bool = False) -> Changes:
        """Look what has changed; ``thorough`` looks at everything, files that were edited in place too.

        Raises `MailStoreUnavailableError` if the store is not there; what is known of it stays.
        """
        with self._lock:
            started = self._monotonic()
            self._layout.scan(self._index, thorough=thorough)
            self._scanned_at = self._monotonic()
            self._scan_seconds = self._scanned_at - started
            self._scans += 1
            return self._index.take_changes()

    def carry_out(
        self, message_id: str, action: Action, category: str | None = None, forward_to: str | None = None
    ) -> Done:
        """Do it (`act`), and mark the mail as processed if that is final."""
        done = self.act(message_id, action, category, forward_to)
        if done.is_final:
            self.note_processed(message_id)
        return done

    def act(
        self, message_id: str, action: Action, category: str | None = None, forward_to: str | None = None
    ) -> Done:
        """Do it; once done it can be asked for again, and says `Outcome.ALREADY`.

        ``categorize`` and ``archive`` put every copy that came in into a folder. The mail counts as unprocessed until
        `note_processed`, so whoever writes down what came of it first loses nothing to a kill. Raises
        `MessageNotFoundError`, `InvalidInputError` for a category that no folder can have, `MailStoreError` if the
        store does not allow it.
        """
        return self._act(normalised(message_id), Action(action), category, forward_to)

    def note_processed(self, *message_ids: str) -> None:
        """Mark mails as processed, for good. Raises `MailStoreUnavailableError`."""
        with self._lock:
            try:
                self._marks.note_processed([normalised(one) for one in message_ids])
            except OSError as error:
                raise MailStoreUnavailableError(f"Nothing can be noted in the store: {error}") from error

    def statistics(self) -> Statistics:
        """Count; waits for nothing, so an event loop may ask."""
        return Statistics(
            kind=self._layout.kind,
            mails=len(self._index),
            folders=self._layout.folders,
            derived_ids=self._index.derived_ids,
            duplicates=self._index.duplicates,
            unreadable=self._layout.unreadable,
            processed=self._marks.processed,
            scans=self._scans,
            scan_seconds=self._scan_seconds,
        )

    def _act(self, message_id: str, action: Action, category: str | None, forward_to: str | None) -> Done:
        match action:
            case Action.CATEGORIZE:
                if category is None:
                    raise InvalidInputError.at(
                        "$.category", "expected a category, for the mail is put into its folder"
                    )
                return self._file(message_id, action, check_folder(category, "$.category"))
            case Action.ARCHIVE:
                return self._file(message_id, action, ARCHIVE)
            case Action.FORWARD:
                sent = self._forwarder.forward(message_id, self.read(message_id), forward_to)
                return Done(message_id=message_id, action=action, outcome=sent.outcome, reason=sent.reason)
            case Action.NONE:
                with self._lock:
                    entry = self._entry(message_id)
                    if entry is None:
                        raise MessageNotFoundError(message_id)
                    return Done(
                        message_id=message_id, action=action, outcome=Outcome.DONE, folder=entry.folder
                    )

    def _file(self, message_id: str, action: Action, folder: str) -> Done:
        """Put the mail into the folder."""
        outcome = Outcome.ALREADY
        with self._lock:
            for _ in range(_TRIES):
                if self._entry(message_id) is None:
                    raise MessageNotFoundError(message_id)
                copies = self._index.entries(message_id)
                elsewhere = [entry for entry in copies if entry.folder != folder and self._is_incoming(entry)]
                if not elsewhere and all(entry.folder != folder for entry in copies):
                    if self._is_filing(message_id):
                        # A worker had filed it and died, and somebody has moved it on.
                        return Done(
                            message_id=message_id, action=action, outcome=outcome, folder=copies[0].folder
                        )
                    elsewhere = copies[:1]  # it lies in a folder of somebody's, and was asked for by its id
                try:
                    if any(self._is_incoming(entry) for entry in elsewhere):
                        self._marks.note_filing(message_id)
                    put = [self._layout.put(entry, folder) for entry in elsewhere]
                except OSError as error:
                    raise MailStoreError(
                        f"The mail {message_id!r} cannot be put into {folder!r}: {error}"
                    ) from error
                if any(put):
                    outcome = Outcome.DONE
                if all(put):
                    return Done(message_id=message_id, action=action, outcome=outcome, folder=folder)
                self._layout.scan(self._index, thorough=True)
        raise MailStoreError(
            f"The mail {message_id!r} is moved by other programs whenever it is to be put elsewhere"
        )

    def _is_filing(self, message_id: str) -> bool:
        self._refresh_marks()
        return self._marks.is_filing(message_id)

    def _entry(self, message_id: str) -> Entry | None:
        """Return where the mail is; one that is not known may have come in since the last scan."""
        found = self._index.entries(message_id)
        if not found and self._monotonic() >= self._look_again_at:
            started = self._monotonic()
            self._layout.scan(self._index, thorough=False)
            ended = self._monotonic()
            # Who asks for thousands of ids that are not there costs a tenth of the time at most.
            self._look_again_at = ended + 10 * (ended - started)
            found = self._index.entries(message_id)
        return next((entry for entry in found if self._is_incoming(entry)), found[0]) if found else None

    def _is_incoming(self, entry: Entry) -> bool:
        if self._layout.kind is Kind.EML:
            return entry.folder.partition("/")[0] != ARCHIVE
        return entry.folder == INBOX

    def _refresh_marks(self, *, shrink: bool = False) -> None:
        try:
            self._marks.refresh()
            if shrink:
                self._marks.shrink(lambda message_id: bool(self._index.entries(message_id)))
        except OSError as error:
            raise MailStoreUnavailableError(f"The marks of the store cannot be used: {error}") from error


def _shown(entry: Entry) -> StoredMail:
    return StoredMail(
        entry.message_id, entry.folder, entry.head.size, from_ms(entry.head.arrived_ns // 1_000_000)
    )
