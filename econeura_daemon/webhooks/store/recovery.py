"""What becomes of deliveries that nobody works on: found again, freed, canceled."""

from collections.abc import Sequence

import sqlalchemy as sa

from econeura_daemon.storage import Connection, tables
from econeura_daemon.storage.dialect import now_ms, skip_locked
from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.model import AttemptStatus, DeliveryStatus, Subscription
from econeura_daemon.webhooks.store import claims, subscriptions
from econeura_daemon.webhooks.store import statements as hot

_deliveries = tables.deliveries
_attempts = tables.attempts

BATCH = 500
"""Ids in one statement."""

UNKNOWN_ERROR = "the daemon stopped between the send and the record: whether the receiver got it is unknown"


def claimed(connection: Connection, claimant: Claimant) -> list[str]:
    """Return the deliveries that this run has claimed."""
    mine = sa.select(_deliveries.c.id).where(hot.delivering, _deliveries.c.claimed_by == claimant.mark)
    return list(connection.execute(mine).scalars())


def recover(connection: Connection, now: int, claimant: Claimant) -> list[str]:
    """Free what died with its claimant; return the subscriptions concerned.

    Claims of earlier runs of this daemon are dead (the lock on the state directory says so), those of other
    daemons once their lease lapsed. The attempt under way shows as unknown; it counts, and the delivery is due
    at once, even if it was the last: nothing that was accepted goes unsent.
    """
    earlier = sa.and_(
        _deliveries.c.claimed_by.startswith(claimant.daemon_id + "/", autoescape=True),
        _deliveries.c.claimed_by != claimant.mark,
    )
    lapsed = sa.and_(_deliveries.c.lease_until < now_ms(), _deliveries.c.claimed_by != claimant.mark)
    dead = sa.and_(hot.delivering, sa.or_(earlier, lapsed))
    found = connection.execute(
        skip_locked(sa.select(_deliveries.c.id, _deliveries.c.subscription_id).where(dead))
    ).all()
    free(connection, [row.id for row in found], now, claimant)
    return sorted({row.subscription_id for row in found})


def free(connection: Connection, ids: Sequence[str], now: int, claimant: Claimant) -> None:
    """Free claims whose claimant is gone: the attempt under way shows as unknown and counts; due at once.

    An attempt that was the last has one more after it: nothing that was accepted goes unsent. If that one dies
    too the delivery has failed: one that takes the daemon with it must not do so for ever.
    """
    for start in range(0, len(ids), BATCH):
        some = ids[start : start + BATCH]
        held = (_deliveries.c.id.in_(some), hot.delivering)
        _attempts_unknown(connection, some)
        left = {"last_error": UNKNOWN_ERROR, "claimed_by": None, "lease_until": None}
        spent = connection.execute(
            sa.update(_deliveries)
            .where(*held, _deliveries.c.attempts > _deliveries.c.max_attempts)
            .values(status=DeliveryStatus.FAILED.value, next_attempt_at=None, **left)
        ).rowcount
        connection.execute(
            sa.update(_deliveries)
            .where(*held)
            .values(status=DeliveryStatus.RETRYING.value, next_attempt_at=now, **left)
        )
        if spent:
            claims.count(connection, claimant, failed=spent)


def _attempts_unknown(connection: Connection, delivery_ids: Sequence[str]) -> None:
    connection.execute(
        sa.update(_attempts)
        .where(_attempts.c.delivery_id.in_(delivery_ids), _attempts.c.status == AttemptStatus.STARTED.value)
        .values(status=AttemptStatus.UNKNOWN.value, error=UNKNOWN_ERROR)
    )


def cancel_some(connection: Connection, subscription_id: str, most: int, claimant: Claimant) -> int:
    """Cancel what is under way for a subscription, and up to ``most`` of what waits; return how many were.

    Attempts under way show as unknown until they end, if they do.
    """
    under_way = connection.execute(
        sa.select(_deliveries.c.id, _deliveries.c.subscription_id).where(hot.delivering).with_for_update()
    )
    sending = [row.id for row in under_way if row.subscription_id == subscription_id]
    _attempts_unknown(connection, sending)
    waiting = (
        sa.select(_deliveries.c.id)
        .where(_deliveries.c.subscription_id == subscription_id, hot.waiting(_deliveries))
        .order_by(_deliveries.c.next_attempt_at)
        .limit(most)
        .with_for_update()
    )
    ids = [*sending, *connection.execute(waiting).scalars()]
    for start in range(0, len(ids), BATCH):
        connection.execute(
            sa.update(_deliveries)
            .where(_deliveries.c.id.in_(ids[start : start + BATCH]))
            .values(
                status=DeliveryStatus.CANCELED.value, next_attempt_at=None, claimed_by=None, lease_until=None
            )
        )
    claims.count(connection, claimant, canceled=len(ids))
    return len(ids)


def waiting_lanes(connection: Connection) -> list[tuple[Subscription, int]]:
    """Return active subscriptions for which something waits, and when the first of it is due.

    One look into the index a subscription, whatever the backlog; the others stay in the database.
    """
    waiting = sa.select(tables.subscriptions, _first_due.label("due_at")).where(
        tables.subscriptions.c.active.is_(sa.true()), _first_due.is_not(None)
    )
    return [(subscriptions.from_row(row), row.due_at) for row in connection.execute(waiting)]


def deleted_with_rest(connection: Connection) -> list[str]:
    """Return deleted subscriptions that are still owed something."""
    deleted = sa.select(tables.subscriptions.c.id).where(
        tables.subscriptions.c.deleted_at.is_not(None), _first_due.is_not(None)
    )
    return list(connection.execute(deleted).scalars())


_first_due = (
    sa.select(_deliveries.c.next_attempt_at)
    .where(_deliveries.c.subscription_id == tables.subscriptions.c.id, hot.waiting(_deliveries))
    .order_by(_deliveries.c.next_attempt_at)
    .limit(1)
    .correlate(tables.subscriptions)
    .scalar_subquery()
)
