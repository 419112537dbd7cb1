"""The event log's SQL."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from econeura_daemon.core.clock import to_ms
from econeura_daemon.events.model import Event, StoredEvent
from econeura_daemon.events.patterns import WILDCARD, matches_any, prefix_of
from econeura_daemon.storage import Connection, Hot, tables
from econeura_daemon.storage.dialect import last_event_cursor
from econeura_daemon.storage.facts import fact, write_fact
from econeura_daemon.storage.sweeping import BATCH, Found

_INSERT = Hot(
    sa.text(
        "INSERT INTO events (id, type, source, occurred_at, body, trace) "
        "VALUES (:id, :type, :source, :occurred_at, :body, :trace)"
    ),
    "id", "type", "source", "occurred_at", "body", "trace",
)  # fmt: skip
_INSERT_IF_NEW = Hot(
    sa.text(
        "INSERT INTO events (id, type, source, occurred_at, body, trace) "
        "VALUES (:id, :type, :source, :occurred_at, :body, :trace) "
        "ON CONFLICT (id) DO NOTHING RETURNING cursor"
    ),
    "id", "type", "source", "occurred_at", "body", "trace",
)  # fmt: skip
_COUNT_DELIVERIES = Hot(sa.text("SELECT count(*) FROM deliveries WHERE event_id = :id"), "id")

_KEPT_FROM = "events_kept_from"
"""In the store's facts: from this cursor on every event is kept; before it only those that are still owed."""

_columns = (tables.events.c.cursor, tables.events.c.id, tables.events.c.type, tables.events.c.body)


def insert(connection: Connection, events: Sequence[Event]) -> list[Event]:
    """Write events, in their order; return those whose id was not kept already.

    The lock makes cursors grow in the order of the commits: a reader never sees a gap that fills later.
    """
    hold(connection)
    written: list[Event] = []
    rows: list[tuple[Any, ...]] = []
    for event in events:
        row = (event.id, event.type, event.source, to_ms(event.occurred_at), event.body, event.trace)
        if not event.given_id:
            rows.append(row)
        else:
            _write(connection, rows)
            if not connection.rows(_INSERT_IF_NEW, row):
                continue
        written.append(event)
    _write(connection, rows)
    return written


def hold(connection: Connection) -> None:
    """Hold the log until the transaction ends: nobody else appends meanwhile."""
    connection.lock("events")


def _write(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        connection.run(_INSERT, rows)
        rows.clear()


def count_deliveries(connection: Connection, event_id: str) -> int:
    """Return how many deliveries the event has."""
    count: int = connection.rows(_COUNT_DELIVERIES, (event_id,))[0][0]
    return count


def get(connection: Connection, event_id: str) -> StoredEvent | None:
    """Return the event with this id."""
    row = connection.execute(sa.select(*_columns).where(tables.events.c.id == event_id)).first()
    return None if row is None else _stored(row)


def page(
    connection: Connection,
    *,
    pattern: str | None,
    since: int | None,
    until: int | None,
    before: int | None,
    limit: int,
) -> list[StoredEvent]:
    """Return events, newest first: of types that match, from ``since`` on, before ``until`` (milliseconds)."""
    # The cursors first, from an index alone; the bodies only of those that are on the page.
    cursors = sa.select(tables.events.c.cursor).order_by(tables.events.c.cursor.desc()).limit(limit)
    if pattern is not None:
        cursors = cursors.where(_matches((pattern,)))
    if since is not None:
        cursors = cursors.where(tables.events.c.occurred_at >= since)
    if until is not None:
        cursors = cursors.where(tables.events.c.occurred_at < until)
    if before is not None:
        cursors = cursors.where(tables.events.c.cursor < before)
    query = (
        sa.select(*_columns)
        .where(tables.events.c.cursor.in_(cursors))
        .order_by(tables.events.c.cursor.desc())
    )
    return [_stored(row) for row in connection.execute(query)]


def after(
    connection: Connection, cursor: int, patterns: Sequence[str], limit: int, max_bytes: int
) -> tuple[list[StoredEvent], int]:
    """Return matching events after ``cursor``, oldest first, and the cursor up to which the log was read.

    At most ``limit`` rows are looked at whatever matches, so that a filter that matches little costs no more.
    The bodies, of which only the length is looked at first, have ``max_bytes`` in all, or it is a single one.
    """
    events = tables.events.c
    wanted: list[int] = []
    size = 0
    looked = sa.select(events.cursor, events.type, sa.func.length(events.body).label("size"))
    for row in connection.execute(looked.where(events.cursor > cursor).order_by(events.cursor).limit(limit)):
        if not patterns or matches_any(patterns, row.type):
            size += row.size
            if wanted and size > max_bytes:
                break
            wanted.append(row.cursor)
        cursor = row.cursor
    if not wanted:
        return [], cursor
    query = sa.select(*_columns).where(events.cursor.in_(wanted)).order_by(events.cursor)
    return [_stored(row) for row in connection.execute(query)], cursor


def bounds(connection: Connection) -> tuple[int, int]:
    """Return from which cursor on all is kept, and the newest one; see `EventLog.bounds`."""
    row = connection.execute(
        sa.select(
            sa.select(sa.func.min(tables.events.c.cursor)).scalar_subquery().label("oldest"),
            last_event_cursor().label("newest"),
        )
    ).one()
    newest = row.newest or 0
    oldest = max(row.oldest or 0, _kept_from(connection))
    return oldest or (newest and newest + 1), newest


def old(connection: Connection, after: int, *, before: int, now: int) -> Found[int, int]:
    """Look at some events behind the cursor ``after``: those stored before ``before`` that nobody is owed are old.

    The newest one never is: it tells how far the log has come. ``before`` and ``now`` are milliseconds.
    """
    events, deliveries = tables.events.c, tables.deliveries.c
    owed = sa.exists(sa.select(deliveries.id).where(deliveries.event_id == events.id))
    looked = connection.execute(
        sa.select(events.cursor, events.occurred_at, owed.label("owed"))
        .where(events.cursor > after, events.cursor < sa.select(sa.func.max(events.cursor)).scalar_subquery())
        .order_by(events.cursor)
        .limit(BATCH)
    ).all()
    found: list[int] = []
    for row in looked:
        # One of the future was stored while the clock was wrong: those behind it may be old all the same.
        if before <= row.occurred_at <= now:
            return Found(found, None)
        if row.occurred_at < before and not row.owed:
            found.append(row.cursor)
    return Found(found, looked[-1].cursor if len(looked) == BATCH else None)


def forget(connection: Connection, cursors: Sequence[int]) -> int:
    """Delete events unless somebody is owed them; return how many were."""
    hold(connection)
    events, deliveries = tables.events.c, tables.deliveries.c
    owed = sa.exists(sa.select(deliveries.id).where(deliveries.event_id == events.id))
    deleted = connection.execute(sa.delete(tables.events).where(events.cursor.in_(cursors), ~owed)).rowcount
    if deleted:
        write_fact(connection, _KEPT_FROM, str(max(_kept_from(connection), max(cursors) + 1)))
    return deleted


def _kept_from(connection: Connection) -> int:
    return int(fact(connection, _KEPT_FROM) or 0)


def _stored(row: sa.Row[Any]) -> StoredEvent:
    return StoredEvent(row.cursor, row.id, row.type, row.body)


def _matches(patterns: Sequence[str]) -> sa.ColumnElement[bool]:
    clauses: list[sa.ColumnElement[bool]] = []
    for pattern in patterns:
        prefix = prefix_of(pattern)
        if pattern == WILDCARD:
            clauses.append(sa.true())
        elif prefix is None:
            clauses.append(tables.events.c.type == pattern)
        else:  # a range uses the index where LIKE may not; "/" is the character after "."
            clauses.append(sa.and_(tables.events.c.type >= prefix, tables.events.c.type < prefix[:-1] + "/"))
    return sa.or_(*clauses)
