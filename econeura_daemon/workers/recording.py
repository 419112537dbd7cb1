"""What came of calls, written down with the events that tell of it, in one transaction."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, TypeVar

import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import OutcomeUnknownError, StoreError
from econeura_daemon.core.ids import new_id
from econeura_daemon.events import Event, EventLog
from econeura_daemon.storage import Connection, Store
from econeura_daemon.workers.model import Email, EmailStatus
from econeura_daemon.workers.store import emails as sql

SOURCE, VERSION = "api", "1.0.0"
GRACE = 5.0
"""Seconds for which a record is waited for though its caller has left: what workers did must not be forgotten."""

_log = logging.getLogger(__name__)

T = TypeVar("T")
Also = Callable[[Connection, T], None]
"""What a caller runs in the transaction of a deed, on what came of it."""
Counted = Callable[[EmailStatus, int], None]


class Recorder:
    """Writes down what workers did."""

    def __init__(
        self,
        store: Store,
        events: EventLog,
        clock: Clock,
        rng: Random,
        counted: Counted = lambda _status, _number: None,
        *,
        source: str = SOURCE,
    ) -> None:
        """``counted`` is called on the event loop for what was committed: a status, and how many e-mails."""
        self._store = store
        self._events = events
        self._clock = clock
        self._rng = rng
        self._counted = counted
        self._source = source

    @property
    def now(self) -> int:
        """The present instant in milliseconds since the epoch."""
        return to_ms(self._clock.now())

    def new_id(self, prefix: str) -> str:
        """Return a new id."""
        return new_id(prefix, self._clock.now(), self._rng)

    async def record(
        self,
        emails: Sequence[Email],
        told: Sequence[tuple[str, dict[str, Any]]] = (),
        also: Callable[[Connection], None] | None = None,
        *,
        trace: str | None = None,
    ) -> None:
        """Write down what became of e-mails, and the events ``told`` (type and data); ``also`` in the same transaction.

        A cancellation waits until it is done, or for `GRACE`. Raises `StoreError`, and what ``also`` raises.
        """
        events = [self._event(event_type, data, trace) for event_type, data in told]

        def work(connection: Connection) -> None:
            if events:
                self._events.append_all(connection, events)
            sql.insert(connection, emails)
            if also is not None:
                also(connection)
            self.count(connection, emails)

        with trio.CancelScope(shield=True, deadline=trio.current_time() + GRACE):
            await self._store.transact(work)
            return
        raise OutcomeUnknownError(f"The database had not answered after {GRACE:.0f} s")

    async def record_failure(
        self, emails: Sequence[Email], told: Sequence[tuple[str, dict[str, Any]]] = ()
    ) -> None:
        """Write failures down; where that fails too, the log says so, and the first failure is what counts."""
        try:
            await self.record(emails, told)
        except StoreError as error:
            _log.warning("the failure of %d e-mails is not recorded: %s", len(emails), error)

    # Of whoever has a transaction of his own.

    def hold(self, connection: Connection) -> None:
        """Begin a transaction that may append events: whoever does takes the log first."""
        self._events.hold(connection)

    def append(self, connection: Connection, event_type: str, data: dict[str, Any]) -> None:
        """Append an event."""
        self._events.append_all(connection, [self._event(event_type, data, None)])

    def count(self, connection: Connection, emails: Sequence[Email]) -> None:
        """Have e-mails counted once they are committed."""
        for status in EmailStatus:
            number = sum(one.status is status for one in emails)
            if number:
                connection.after_commit(partial(self._counted, status, number))

    def pass_on(self, event_type: str, data: dict[str, Any]) -> None:
        """Tell those who follow the stream at this moment; nothing is stored. Call on the event loop."""
        self._events.passing.tell(self._event(event_type, data, None))

    def _event(self, event_type: str, data: dict[str, Any], trace: str | None) -> Event:
        now = self._clock.now()
        return Event.make(
            id=new_id("evt", now, self._rng), type=event_type, data=data, source=self._source,
            version=VERSION, now=now, trace=trace,
        )  # fmt: skip
