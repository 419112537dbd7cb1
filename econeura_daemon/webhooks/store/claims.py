"""The life of a delivery in the store: born, claimed, recorded, given back, recovered.

A claim carries the run of the daemon that made it, and on PostgreSQL a lease in the database's own time. What
comes back from an attempt is written only while the claim still holds: of two daemons that both believe in
their claim, one finds nothing to write.
"""

import logging
from collections.abc import Iterable, Sequence

import attrs
import sqlalchemy as sa

from econeura_daemon.core.jsons import dumps
from econeura_daemon.storage import Connection, tables
from econeura_daemon.storage.dialect import now_ms
from econeura_daemon.webhooks.model import (
    AttemptOutcome,
    AttemptStatus,
    DeliveryStatus,
    Outgoing,
    Subscription,
)
from econeura_daemon.webhooks.schedule import describe
from econeura_daemon.webhooks.store import statements as hot
from econeura_daemon.webhooks.store import subscriptions

_deliveries = tables.deliveries
_attempts = tables.attempts

_log = logging.getLogger(__name__)

BATCH = 500
"""Ids in one statement."""

UNKNOWN_ERROR = "the daemon stopped between the send and the record: whether the receiver got it is unknown"


@attrs.frozen
class Claimant:
    """Who claims: this run of this daemon; ``lease_ms`` None where claims do not lapse by time (SQLite)."""

    daemon_id: str
    run_id: str
    lease_ms: int | None

    @property
    def mark(self) -> str:
        """What a claim carries."""
        return f"{self.daemon_id}/{self.run_id}"


@attrs.frozen(kw_only=True)
class Birth:
    """A delivery as it comes into the store; with an attempt id it is claimed and under way from the start."""

    id: str
    event_id: str
    event_type: str
    subscription_id: str
    max_attempts: int
    created_at: int
    attempt_id: str | None


def insert(connection: Connection, births: Iterable[Birth], claimant: Claimant) -> None:
    """Write deliveries of an event that is written in the same transaction, and attempts as started."""
    rows, attempts = [], []
    for birth in births:
        claimed = birth.attempt_id is not None
        status = DeliveryStatus.DELIVERING if claimed else DeliveryStatus.PENDING
        rows.append((
            birth.id, birth.event_id, birth.event_type, birth.subscription_id, status.value, int(claimed),
            birth.max_attempts, birth.created_at, None if claimed else birth.created_at,
            birth.created_at if claimed else None, claimant.mark if claimed else None,
            claimant.lease_ms if claimed else None,
        ))  # fmt: skip
        if claimed:
            attempts.append((birth.id, 1, birth.attempt_id, "scheduled", birth.created_at))
    connection.run(hot.INSERT_DELIVERY, rows)
    _count(connection, claimant, created=len(rows))
    if attempts:
        connection.run(hot.INSERT_ATTEMPT, attempts)


def claim(
    connection: Connection, wanted: dict[str, int], now: int, attempt_ids: Sequence[str], claimant: Claimant
) -> tuple[list[Outgoing], dict[str, int | None]]:
    """Claim up to ``wanted`` due deliveries a subscription and write their attempts as started.

    Returns what is to be sent, and for each subscription when its next waiting delivery is due (None: none).
    Deliveries of a subscription that is paused or deleted are not claimed.
    """
    ids = iter(attempt_ids)
    known = subscriptions.by_ids(connection, list(wanted))
    outgoing: list[Outgoing] = []
    attempts = []
    due: dict[str, int | None] = {}
    for key, limit in wanted.items():
        subscription = known.get(key)
        if subscription is None or not subscription.active or subscription.deleted:
            due[key] = None
            continue
        rows = connection.rows(hot.CLAIM, (key, now, limit, claimant.mark, claimant.lease_ms))
        for delivery_id, event_id, number, max_attempts, created_at in rows:
            found = connection.rows(hot.EVENT, (event_id,))
            if not found:
                _fail(connection, delivery_id, f"the event {event_id} is not kept any more", claimant)
                continue
            event_type, body, trace = found[0]
            attempts.append((delivery_id, number, next(ids), "scheduled", now))
            outgoing.append(
                Outgoing(
                    delivery_id=delivery_id,
                    event_id=event_id,
                    event_type=event_type,
                    body=bytes(body),
                    trace=trace,
                    subscription=subscription,
                    number=number,
                    max_attempts=max_attempts,
                    created_at=created_at,
                )
            )
        due[key] = next_due(connection, key)
    if attempts:
        connection.run(hot.INSERT_ATTEMPT, attempts)
    return outgoing, due


def next_due(connection: Connection, subscription_id: str) -> int | None:
    """Return when the first waiting delivery of the subscription is due, None if none waits."""
    rows = connection.rows(hot.NEXT_DUE, (subscription_id,))
    return rows[0][0] if rows else None


def record(
    connection: Connection,
    outgoing: Outgoing,
    outcome: AttemptOutcome,
    *,
    status: DeliveryStatus,
    next_attempt_at: int | None,
    claimant: Claimant,
) -> None:
    """Write how an attempt ended and where that leaves its delivery, if the claim still holds."""
    headers = outcome.response_headers
    connection.run(hot.FINISH_ATTEMPT, [(
        (AttemptStatus.SUCCEEDED if outcome.succeeded else AttemptStatus.FAILED).value,
        outcome.duration_ms, outcome.status_code, outcome.error,
        None if headers is None else dumps(dict(headers)).decode(), outcome.response_body,
        outgoing.delivery_id, outgoing.number,
    )])  # fmt: skip
    ends = (int(status is DeliveryStatus.DELIVERED), int(status is DeliveryStatus.FAILED))
    if any(ends):
        connection.run(
            hot.COUNT_END, [(claimant.daemon_id, *ends, outgoing.delivery_id, claimant.mark, outgoing.number)]
        )
    connection.run(hot.FINISH_DELIVERY, [(
        status.value, next_attempt_at, None if outcome.succeeded else describe(outcome),
        outcome.status_code, outcome.duration_ms, outgoing.delivery_id, claimant.mark,
        outgoing.number,
    )])  # fmt: skip


def give_back(connection: Connection, outgoing: Iterable[Outgoing], now: int, claimant: Claimant) -> None:
    """Take back attempts that a drain cut off: no trace of them, nothing spent, due at once."""
    forgotten, returned = [], []
    for one in outgoing:
        status = DeliveryStatus.PENDING if one.number == 1 else DeliveryStatus.RETRYING
        forgotten.append((one.delivery_id, one.number))
        returned.append((status.value, now, None, one.delivery_id, claimant.mark, one.number))
    connection.run(hot.FORGET_ATTEMPT, forgotten)
    connection.run(hot.GIVE_BACK, returned)


def renew(connection: Connection, held: Iterable[Outgoing], claimant: Claimant) -> None:
    """Prolong the leases of what this run has under way."""
    rows = [(claimant.lease_ms, one.delivery_id, claimant.mark, one.number) for one in held]
    connection.run(hot.RENEW, rows)


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
        sa.select(_deliveries.c.id, _deliveries.c.subscription_id)
        .where(dead)
        .with_for_update(skip_locked=True)
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
            _count(connection, claimant, failed=spent)


def _attempts_unknown(connection: Connection, delivery_ids: Sequence[str]) -> None:
    connection.execute(
        sa.update(_attempts)
        .where(_attempts.c.delivery_id.in_(delivery_ids), _attempts.c.status == AttemptStatus.STARTED.value)
        .values(status=AttemptStatus.UNKNOWN.value, error=UNKNOWN_ERROR)
    )


def _fail(connection: Connection, delivery_id: str, reason: str, claimant: Claimant) -> None:
    """End a delivery of which no attempt can be made."""
    _log.error("a delivery cannot be attempted: %s", reason, extra={"delivery_id": delivery_id})
    connection.execute(
        sa.update(_deliveries)
        .where(_deliveries.c.id == delivery_id)
        .values(
            status=DeliveryStatus.FAILED.value,
            attempts=_deliveries.c.attempts - 1,
            last_error=reason,
            claimed_by=None,
            lease_until=None,
        )
    )
    _count(connection, claimant, failed=1)


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
    _count(connection, claimant, canceled=len(ids))
    return len(ids)


def _count(
    connection: Connection, claimant: Claimant, *, created: int = 0, failed: int = 0, canceled: int = 0
) -> None:
    connection.run(hot.COUNT, [(claimant.daemon_id, created, failed, canceled)])


def waiting_lanes(connection: Connection) -> list[tuple[Subscription, int]]:
    """Return active subscriptions for which something waits, and when the first of it is due.

    One look into the index a subscription, whatever the backlog.
    """
    active = sa.select(tables.subscriptions, _first_due.label("due_at")).where(
        tables.subscriptions.c.active.is_(sa.true())
    )
    rows = connection.execute(active)
    return [(subscriptions.from_row(row), row.due_at) for row in rows if row.due_at is not None]


def deleted_with_rest(connection: Connection) -> list[str]:
    """Return deleted subscriptions that are still owed something."""
    deleted = sa.select(tables.subscriptions.c.id, _first_due.label("due_at")).where(
        tables.subscriptions.c.deleted_at.is_not(None)
    )
    return [row.id for row in connection.execute(deleted) if row.due_at is not None]


_first_due = (
    sa.select(_deliveries.c.next_attempt_at)
    .where(_deliveries.c.subscription_id == tables.subscriptions.c.id, hot.waiting(_deliveries))
    .order_by(_deliveries.c.next_attempt_at)
    .limit(1)
    .correlate(tables.subscriptions)
    .scalar_subquery()
)
