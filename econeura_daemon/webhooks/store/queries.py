"""What is asked of deliveries and attempts."""

from typing import Any

import sqlalchemy as sa

from econeura_daemon.core.clock import from_ms
from econeura_daemon.core.ids import first_id
from econeura_daemon.core.jsons import loads
from econeura_daemon.storage import Connection, tables
from econeura_daemon.webhooks.model import Attempt, AttemptStatus, Delivery, DeliveryStatus, Trigger
from econeura_daemon.webhooks.store import subscriptions
from econeura_daemon.webhooks.store.statements import delivering

_deliveries = tables.deliveries
_attempts = tables.attempts
_subscriptions = tables.subscriptions

_totals = tables.delivery_totals
_ENDS = ("created", "delivered", "failed", "canceled")

_shown = sa.select(_deliveries, _subscriptions.c.url).join(
    _subscriptions, _subscriptions.c.id == _deliveries.c.subscription_id
)


def get(connection: Connection, delivery_id: str) -> tuple[Delivery, list[Attempt]] | None:
    """Return the delivery and its attempts, oldest first."""
    row = connection.execute(_shown.where(_deliveries.c.id == delivery_id)).first()
    if row is None:
        return None
    attempts = connection.execute(
        sa.select(_attempts).where(_attempts.c.delivery_id == delivery_id).order_by(_attempts.c.number)
    )
    return _delivery(row), [_attempt(attempt) for attempt in attempts]


def page(
    connection: Connection,
    *,
    status: DeliveryStatus | None,
    subscription_id: str | None,
    event_id: str | None,
    event_type: str | None,
    since: int | None,
    before: str | None,
    limit: int,
) -> list[Delivery]:
    """Return deliveries that fit, newest first, from below the id ``before``."""
    query = _shown.order_by(_deliveries.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(_deliveries.c.status == sa.literal_column(f"'{status.value}'"))
    if subscription_id is not None:
        query = query.where(_deliveries.c.subscription_id == subscription_id)
    if event_id is not None:
        query = query.where(_deliveries.c.event_id == event_id)
    if event_type is not None:
        query = query.where(_deliveries.c.event_type == event_type)
    if since is not None:
        # Ids sort by the time at which they were made, so the newest page never looks at what is older.
        query = query.where(_deliveries.c.id >= first_id("del", from_ms(since)))
    if before is not None:
        query = query.where(_deliveries.c.id < before)
    return [_delivery(row) for row in connection.execute(query)]


def stats(connection: Connection) -> dict[str, int]:
    """Count subscriptions and deliveries, under the keys of ``GET /v1/webhooks/stats``.

    What costs more the more is kept is not counted but kept as a total.
    """
    subscribed, active = subscriptions.count(connection)
    totals = connection.execute(
        sa.select(*(sa.func.coalesce(sa.func.sum(_totals.c[name]), 0).label(name) for name in _ENDS))
    ).one()
    ended = totals.delivered + totals.failed + totals.canceled
    in_flight = connection.execute(
        sa.select(sa.func.count()).select_from(_deliveries).where(delivering)
    ).scalar_one()
    return {
        "totalSubscriptions": subscribed,
        "activeSubscriptions": active,
        "totalDeliveries": int(totals.created),
        "pendingDeliveries": int(totals.created - ended),
        "inFlightDeliveries": in_flight,
        "failedDeliveries": int(totals.failed),
        "deliveredDeliveries": int(totals.delivered),
        "canceledDeliveries": int(totals.canceled),
    }


def _delivery(row: sa.Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        event_id=row.event_id,
        event_type=row.event_type,
        subscription_id=row.subscription_id,
        url=row.url,
        status=DeliveryStatus(row.status),
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        created_at=row.created_at,
        next_attempt_at=row.next_attempt_at,
        last_attempt_at=row.last_attempt_at,
        last_error=row.last_error,
        response_code=row.response_code,
        response_time=row.response_time,
    )


def _attempt(row: sa.Row[Any]) -> Attempt:
    return Attempt(
        id=row.id,
        number=row.number,
        trigger=Trigger(row.trigger),
        status=AttemptStatus(row.status),
        started_at=row.started_at,
        duration_ms=row.duration_ms,
        status_code=row.status_code,
        error=row.error,
        response_headers=None if row.response_headers is None else loads(row.response_headers.encode()),
        response_body=row.response_body,
    )
