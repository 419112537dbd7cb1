"""The event log: the only source of events, inside anyone's transaction."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from econeura_daemon.core.errors import NotFoundError
from econeura_daemon.events import store as sql
from econeura_daemon.events.model import Event, Published, StoredEvent
from econeura_daemon.storage import Connection, Store, Watch

TOPIC = "events"
"""Announced by every transaction that appends."""

READ_BYTES = 1024 * 1024
"""Of bodies in one reading of the log."""


class FanOut(Protocol):
    """What the log needs of whoever owes events to others: one delivery a taker, in the event's transaction."""

    def __call__(self, connection: Connection, event: Event, /) -> int:
        """Write down who is owed the event; return how many are."""
        ...


def owed_to_nobody(_connection: Connection, _event: Event) -> int:
    """Fan out to nobody."""
    return 0


class EventLog:
    """Appends events and reads them back.

    A cursor is the event's place in the log, a growing integer; the order of cursors is the order of commits.
    """

    def __init__(
        self,
        store: Store,
        fan_out: FanOut = owed_to_nobody,
        *,
        appended: Callable[[], None] | None = None,
    ) -> None:
        """``appended`` is called on the event loop for each event that was committed."""
        self._store = store
        self._fan_out = fan_out
        self._appended = appended

    def append(self, connection: Connection, event: Event) -> Published:
        """Write the event and its deliveries in the transaction of ``connection``; wake who follows the log.

        An event whose given id is kept already is not written again, and nobody is owed anything new.
        """
        if not sql.insert(connection, event):
            return Published(event.id, sql.count_deliveries(connection, event.id), duplicate=True)
        deliveries = self._fan_out(connection, event)
        connection.announce(TOPIC)
        if self._appended is not None:
            connection.after_commit(self._appended)
        return Published(event.id, deliveries)

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
        """Return the oldest cursor that is kept and the newest one, both 0 in a log that never held anything.

        On SQLite the newest is the newest ever given out, also if its event is not kept any more; the oldest
        of a log that was emptied comes after it. On PostgreSQL it is the newest that is kept: the sequence
        there runs ahead of what is committed, and a reader that began behind it would miss what follows.
        """
        return await self._store.read(sql.bounds)

    def watch(self) -> AbstractContextManager[Watch]:
        """Wake the one waiter of the block whenever something was appended, here or by another daemon."""
        return self._store.watch(TOPIC)
