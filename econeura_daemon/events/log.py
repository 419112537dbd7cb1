"""The event log: the only source of events, inside anyone's transaction."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from econeura_daemon.core.errors import EconeuraError, NotFoundError
from econeura_daemon.events import store as sql
from econeura_daemon.events.model import Event, Published, StoredEvent
from econeura_daemon.events.passing import Passing
from econeura_daemon.storage import Connection, Store, Watch
from econeura_daemon.storage.sweeping import sweep

TOPIC = "events"
"""Announced by every transaction that appends."""

READ_BYTES = 1024 * 1024
"""Of bodies in one reading of the log."""


class FanOut(Protocol):
    """What the log needs of whoever owes events to others: one delivery a taker, in the event's transaction."""

    def __call__(self, connection: Connection, events: Sequence[Event], most: int | None, /) -> Sequence[int]:
        """Write down who is owed the events, which were just written; return how many are, for each.

        Raises `TooManyDeliveriesError` if it comes to more than ``most`` in all, unless for a single event.
        """
        ...


class TooManyDeliveriesError(EconeuraError):
    """Several events, to be written in one transaction, are owed to more takers than was allowed."""


def owed_to_nobody(_connection: Connection, events: Sequence[Event], _most: int | None) -> Sequence[int]:
    """Fan out to nobody."""
    return [0] * len(events)


class EventLog:
    """Appends events and reads them back.

    A cursor is the event's place in the log, a growing integer; the order of cursors is the order of commits.
    `passing` tells those who follow it what is not worth storing.
    """

    def __init__(
        self,
        store: Store,
        fan_out: FanOut = owed_to_nobody,
        *,
        appended: Callable[[int], None] | None = None,
    ) -> None:
        """``appended`` is called on the event loop with the number of events that were committed."""
        self._store = store
        self._fan_out = fan_out
        self._appended = appended
        self.passing = Passing()

    def append(self, connection: Connection, event: Event) -> Published:
        """Write one event; see `append_all`."""
        [published] = self.append_all(connection, [event])
        return published

    def append_all(
        self, connection: Connection, events: Sequence[Event], *, most: int | None = None
    ) -> list[Published]:
        """Write events and their deliveries in the transaction of ``connection``; wake who follows the log.

        An event whose given id is kept already is not written again, and nobody is owed anything new. Raises
        `TooManyDeliveriesError` if several events are owed to more than ``most`` takers in all.
        """
        written = sql.insert(connection, events)
        counts = iter(self._fan_out(connection, written, most) if written else ())
        new = {id(event) for event in written}
        if written:
            connection.announce(TOPIC)
            if self._appended is not None:
                connection.after_commit(partial(self._appended, len(written)))
        return [
            Published(event.id, next(counts))
            if id(event) in new
            else Published(event.id, sql.count_deliveries(connection, event.id), duplicate=True)
            for event in events
        ]

    @staticmethod
    def hold(connection: Connection) -> None:
        """Take the log's lock now: for a work that locks rows of its own and appends afterwards.

        Works of several daemons are joined in transactions; if some took rows first and some the log, they could
        wait for each other.
        """
        sql.hold(connection)

    async def get(self, event_id: str) -> StoredEvent:
        """Return the event. Raises `NotFoundError`."""
        found = await self._store.read(lambda connection: sql.get(connection, event_id))
        if found is None:
            raise NotFoundError("event", event_id)
        return found

    async def page(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the query parameter's name
        since: int | None = None,
        until: int | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[StoredEvent]:
        """Return up to ``limit`` events, newest first.

        ``type`` may be a pattern; ``since`` (included) and ``until`` (excluded) are milliseconds since the
        epoch; ``before`` is the cursor after which the page begins.
        """
        return await self._store.read(
            lambda connection: sql.page(
                connection, pattern=type, since=since, until=until, before=before, limit=limit
            )
        )

    async def after(
        self, cursor: int, patterns: Sequence[str], limit: int, *, max_bytes: int = READ_BYTES
    ) -> tuple[list[StoredEvent], int]:
        """Return matching events after ``cursor``, oldest first, and the cursor up to which the log was read.

        At most ``limit`` events are looked at, and bodies of ``max_bytes`` in all returned, or the one event
        that is larger. The log's end is reached when the cursor comes back unchanged. No pattern: all match.
        """
        return await self._store.read(
            lambda connection: sql.after(connection, cursor, patterns, limit, max_bytes)
        )

    async def bounds(self) -> tuple[int, int]:
        """Return the cursor from which on all events are kept, and the newest one; both 0 in a log that never held any.

        Before the first one there may be events that somebody is still owed, and none else.

        On SQLite the newest is the newest ever given out, also if its event is not kept any more; the oldest
        of a log that was emptied comes after it. On PostgreSQL it is the newest that is kept: the sequence
        there runs ahead of what is committed, and a reader that began behind it would miss what follows.
        """
        return await self._store.read(sql.bounds)

    async def forget(self, before: int, now: int) -> int:
        """Delete events stored before ``before`` (milliseconds) of which no delivery is kept; return how many were.

        Whoever reads on from what is gone is told so: see `bounds`.
        """
        return await sweep(self._store, 0, partial(sql.old, before=before, now=now), sql.forget)

    def watch(self) -> AbstractContextManager[Watch]:
        """Wake the one waiter of the block whenever something was appended, here or by another daemon."""
        return self._store.watch(TOPIC)
