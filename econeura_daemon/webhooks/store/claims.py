"""The life of a delivery in the store: born, claimed, recorded, given back.

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
from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.model import (
    AttemptOutcome,
    AttemptStatus,
    DeliveryStatus,
    Outgoing,
)
from econeura_daemon.webhooks.schedule import describe
from econeura_daemon.webhooks.store import statements as hot
from econeura_daemon.webhooks.store import subscriptions

_deliveries = tables.deliveries
_attempts = tables.attempts

_log = logging.getLogger(__name__)


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
    count(connection, claimant, created=len(rows))
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
    endings: Iterable[tuple[Outgoing, AttemptOutcome, DeliveryStatus, int | None]],
    claimant: Claimant,
) -> None:
    """Write how attempts ended and where that leaves their deliveries, as far as the claims still hold.

    Of each: the attempt, its outcome, the delivery's status from now on, and when its next attempt is due.
    """
    attempts, ends, deliveries = [], [], []
    for outgoing, outcome, status, next_attempt_at in endings:
        succeeded, headers = outcome.succeeded, outcome.response_headers
        attempts.append((
            (AttemptStatus.SUCCEEDED if succeeded else AttemptStatus.FAILED).value,
            outcome.duration_ms, outcome.status_code, outcome.error,
            None if headers is None else dumps(dict(headers)).decode(), outcome.response_body,
            outgoing.delivery_id, outgoing.number,
        ))  # fmt: skip
        held = (outgoing.delivery_id, claimant.mark, outgoing.number)
        if next_attempt_at is None:
            delivered = status is DeliveryStatus.DELIVERED
            ends.append((claimant.daemon_id, int(delivered), int(not delivered), *held))
        deliveries.append((
            status.value, next_attempt_at, None if succeeded else describe(outcome), outcome.status_code,
            outcome.duration_ms, *held,
        ))  # fmt: skip
    connection.run(hot.FINISH_ATTEMPT, attempts)
    if ends:
        connection.run(hot.COUNT_END, ends)
    connection.run(hot.FINISH_DELIVERY, deliveries)


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
    count(connection, claimant, failed=1)


def count(
    connection: Connection, claimant: Claimant, *, created: int = 0, failed: int = 0, canceled: int = 0
) -> None:
    """Add to the totals of the claimant's daemon."""
    connection.run(hot.COUNT, [(claimant.daemon_id, created, failed, canceled)])
