"""Deliveries and attempts that are old.

Ids of deliveries sort by the time at which they were made, and an attempt is never older than its delivery: so both
are found from the lower end of their primary keys.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from econeura_daemon.storage import Connection, Hot, tables
from econeura_daemon.storage.sweeping import BATCH, Found
from econeura_daemon.webhooks.model import AttemptStatus, DeliveryStatus

_attempts = tables.attempts
_deliveries = tables.deliveries
_subscriptions = tables.subscriptions

_ENDED = tuple(
    status.value for status in (DeliveryStatus.DELIVERED, DeliveryStatus.FAILED, DeliveryStatus.CANCELED)
)
_FORGET_ATTEMPT = Hot(
    sa.delete(_attempts).where(
        _attempts.c.delivery_id == sa.bindparam("g_delivery_id"), _attempts.c.number == sa.bindparam("g_number")
    ),
    "g_delivery_id", "g_number",
)  # fmt: skip


def old_attempts(
    connection: Connection, after: tuple[str, int], *, deliveries_before: str, before: int
) -> Found[tuple[str, int], tuple[str, int]]:
    """Look at some attempts behind ``after`` (delivery and number): those that began before ``before`` are old.

    Not the one that is under way. ``deliveries_before``: the least id of deliveries that are not older.
    """
    key = sa.tuple_(_attempts.c.delivery_id, _attempts.c.number)
    looked = connection.execute(
        sa.select(_attempts.c.delivery_id, _attempts.c.number, _attempts.c.started_at, _attempts.c.status)
        .where(key > sa.tuple_(*map(sa.literal, after)), _attempts.c.delivery_id < deliveries_before)
        .order_by(_attempts.c.delivery_id, _attempts.c.number)
        .limit(BATCH)
    ).all()
    old = [
        (row.delivery_id, row.number)
        for row in looked
        if row.started_at < before and row.status != AttemptStatus.STARTED.value
    ]
    last = looked[-1] if len(looked) == BATCH else None
    return Found(old, None if last is None else (last.delivery_id, last.number))


def forget_attempts(connection: Connection, keys: Sequence[tuple[str, int]]) -> int:
    """Delete attempts; return how many."""
    connection.run(_FORGET_ATTEMPT, keys)
    return len(keys)


def old_deliveries(connection: Connection, after: str, *, before: str) -> Found[str, str]:
    """Look at some deliveries behind the id ``after``: those below the id ``before`` that have ended are old."""
    looked = connection.execute(
        sa.select(_deliveries.c.id, _deliveries.c.status)
        .where(_deliveries.c.id > after, _deliveries.c.id < before)
        .order_by(_deliveries.c.id)
        .limit(BATCH)
    ).all()
    old = [row.id for row in looked if row.status in _ENDED]
    return Found(old, looked[-1].id if len(looked) == BATCH else None)


def forget_deliveries(connection: Connection, ids: Sequence[str]) -> int:
    """Delete deliveries that have ended, and their attempts; return how many."""
    ended = sa.delete(_deliveries).where(_deliveries.c.id.in_(ids), _deliveries.c.status.in_(_ENDED))
    gone = connection.execute(ended.returning(_deliveries.c.id)).scalars().all()
    connection.execute(sa.delete(_attempts).where(_attempts.c.delivery_id.in_(gone)))
    return len(gone)


def old_subscriptions(connection: Connection, after: str, *, before: int) -> Found[str, str]:
    """Look at some subscriptions behind the id ``after``: those deleted before ``before`` are old.

    Not while deliveries of theirs are kept, whose address they are.
    """
    kept = sa.exists(sa.select(_deliveries.c.id).where(_deliveries.c.subscription_id == _subscriptions.c.id))
    looked = connection.execute(
        sa.select(_subscriptions.c.id, _subscriptions.c.deleted_at, kept.label("kept"))
        .where(_subscriptions.c.id > after)
        .order_by(_subscriptions.c.id)
        .limit(BATCH)
    ).all()
    old = [
        row.id for row in looked if row.deleted_at is not None and row.deleted_at < before and not row.kept
    ]
    return Found(old, looked[-1].id if len(looked) == BATCH else None)


def forget_subscriptions(connection: Connection, ids: Sequence[str]) -> int:
    """Delete subscriptions of which nothing is kept; return how many."""
    kept = sa.exists(sa.select(_deliveries.c.id).where(_deliveries.c.subscription_id == _subscriptions.c.id))
    return connection.execute(sa.delete(_subscriptions).where(_subscriptions.c.id.in_(ids), ~kept)).rowcount
