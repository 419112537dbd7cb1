"""The hot statements of a delivery's life, run on the driver from their compiled text.

Parameters are named ``g_…`` (given), since SQLAlchemy keeps a column's own name for itself.
"""

import sqlalchemy as sa
from sqlalchemy import bindparam as given

from econeura_daemon.storage import Hot, tables
from econeura_daemon.storage.dialect import insert as insert_or
from econeura_daemon.storage.dialect import now_ms, skip_locked
from econeura_daemon.webhooks.model import AttemptStatus, DeliveryStatus

_deliveries = tables.deliveries
_attempts = tables.attempts
_events = tables.events


def waiting(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Say "waits for an attempt" as the partial index says it.

    Neither a bound value nor a typed column (which SQLite is given as ``… = 1``) would let it be used.
    """
    name = table.name  # type: ignore[attr-defined]
    return sa.literal_column(f"{name}.status IN ('pending', 'retrying')")


delivering: sa.ColumnElement[bool] = sa.literal_column("deliveries.status = 'delivering'")

INSERT_DELIVERY = Hot(
    sa.insert(_deliveries).values(
        id=given("g_id"),
        event_id=given("g_event_id"),
        event_cursor=sa.select(_events.c.cursor).where(_events.c.id == given("g_event_id")).scalar_subquery(),
        event_type=given("g_event_type"),
        subscription_id=given("g_subscription_id"),
        status=given("g_status"),
        attempts=given("g_attempts"),
        max_attempts=given("g_max_attempts"),
        created_at=given("g_created_at"),
        next_attempt_at=given("g_next_attempt_at"),
        last_attempt_at=given("g_last_attempt_at"),
        claimed_by=given("g_claimed_by"),
        lease_until=now_ms() + given("g_lease", type_=sa.BigInteger),
    ),
    "g_id", "g_event_id", "g_event_type", "g_subscription_id", "g_status", "g_attempts", "g_max_attempts",
    "g_created_at", "g_next_attempt_at", "g_last_attempt_at", "g_claimed_by", "g_lease",
)  # fmt: skip

INSERT_ATTEMPT = Hot(
    sa.insert(_attempts).values(
        delivery_id=given("g_delivery_id"),
        number=given("g_number"),
        id=given("g_id"),
        trigger=given("g_trigger"),
        status=AttemptStatus.STARTED.value,
        started_at=given("g_started_at"),
    ),
    "g_delivery_id", "g_number", "g_id", "g_trigger", "g_started_at",
)  # fmt: skip

_candidates = _deliveries.alias("candidates")
_due = skip_locked(
    sa.select(_candidates.c.id)
    .where(
        _candidates.c.subscription_id == given("g_subscription_id"),
        waiting(_candidates),
        _candidates.c.next_attempt_at <= given("g_now"),
    )
    .order_by(_candidates.c.next_attempt_at, _candidates.c.event_cursor)
    .limit(given("g_limit", type_=sa.Integer))
).cte("due")  # a subquery might be run again for each row, and claim more than it may
CLAIM = Hot(
    sa.update(_deliveries)
    .where(_deliveries.c.id.in_(sa.select(_due.c.id)))
    .values(
        status=DeliveryStatus.DELIVERING.value,
        attempts=_deliveries.c.attempts + 1,
        next_attempt_at=None,
        last_attempt_at=given("g_now"),
        claimed_by=given("g_claimed_by"),
        lease_until=now_ms() + given("g_lease", type_=sa.BigInteger),
    )
    .returning(
        _deliveries.c.id,
        _deliveries.c.event_id,
        _deliveries.c.attempts,
        _deliveries.c.max_attempts,
        _deliveries.c.created_at,
    ),
    "g_subscription_id", "g_now", "g_limit", "g_claimed_by", "g_lease",
)  # fmt: skip

NEXT_DUE = Hot(
    sa.select(_deliveries.c.next_attempt_at)
    .where(_deliveries.c.subscription_id == given("g_subscription_id"), waiting(_deliveries))
    .order_by(_deliveries.c.next_attempt_at)
    .limit(1),
    "g_subscription_id",
)

EVENT = Hot(
    sa.select(_events.c.type, _events.c.body, _events.c.trace).where(_events.c.id == given("g_id")), "g_id"
)

_held = (
    _deliveries.c.id == given("g_id"),
    delivering,
    _deliveries.c.claimed_by == given("g_claimed_by"),
    _deliveries.c.attempts == given("g_number"),
)
"""The claim under which an attempt was made: a later attempt, even of the same run, is another claim."""

FINISH_ATTEMPT = Hot(
    sa.update(_attempts)
    .where(_attempts.c.delivery_id == given("g_delivery_id"), _attempts.c.number == given("g_number"))
    .values(
        status=given("g_status"),
        duration_ms=given("g_duration_ms"),
        status_code=given("g_status_code"),
        error=given("g_error"),
        response_headers=given("g_response_headers"),
        response_body=given("g_response_body"),
    ),
    "g_status", "g_duration_ms", "g_status_code", "g_error", "g_response_headers", "g_response_body",
    "g_delivery_id", "g_number",
)  # fmt: skip
FINISH_DELIVERY = Hot(
    sa.update(_deliveries)
    .where(*_held)
    .values(
        status=given("g_status"),
        next_attempt_at=given("g_next_attempt_at"),
        last_error=given("g_last_error"),
        response_code=given("g_response_code"),
        response_time=given("g_response_time"),
        claimed_by=None,
        lease_until=None,
    ),
    "g_status", "g_next_attempt_at", "g_last_error", "g_response_code", "g_response_time", "g_id", "g_claimed_by",
    "g_number",
)  # fmt: skip

FORGET_ATTEMPT = Hot(
    sa.delete(_attempts).where(
        _attempts.c.delivery_id == given("g_delivery_id"),
        _attempts.c.number == given("g_number"),
        _attempts.c.status == AttemptStatus.STARTED.value,
    ),
    "g_delivery_id", "g_number",
)  # fmt: skip
GIVE_BACK = Hot(
    sa.update(_deliveries)
    .where(*_held)
    .values(
        status=given("g_status"),
        attempts=_deliveries.c.attempts - 1,
        next_attempt_at=given("g_next_attempt_at"),
        last_attempt_at=given("g_last_attempt_at"),
        claimed_by=None,
        lease_until=None,
    ),
    "g_status", "g_next_attempt_at", "g_last_attempt_at", "g_id", "g_claimed_by", "g_number",
)  # fmt: skip

RENEW = Hot(
    sa.update(_deliveries)
    .where(*_held)
    .values(lease_until=now_ms() + given("g_lease", type_=sa.BigInteger)),
    "g_lease", "g_id", "g_claimed_by", "g_number",
)  # fmt: skip

_totals = tables.delivery_totals
_counted = insert_or(_totals).values(
    daemon_id=given("g_daemon_id"),
    created=given("g_created"),
    delivered=0,
    failed=given("g_failed"),
    canceled=given("g_canceled"),
)
COUNT = Hot(
    _counted.on_conflict_do_update(
        index_elements=[_totals.c.daemon_id],
        set_={name: _totals.c[name] + _counted.excluded[name] for name in ("created", "failed", "canceled")},
    ),
    "g_daemon_id", "g_created", "g_failed", "g_canceled",
)  # fmt: skip

_ended = sa.select(
    given("g_daemon_id", type_=sa.Text), sa.literal(0), given("g_delivered", type_=sa.BigInteger),
    given("g_failed", type_=sa.BigInteger), sa.literal(0),
).where(sa.exists(sa.select(_deliveries.c.id).where(*_held).with_for_update()))  # fmt: skip
COUNT_END = Hot(
    insert_or(_totals)
    .from_select(["daemon_id", "created", "delivered", "failed", "canceled"], _ended)
    .on_conflict_do_update(
        index_elements=[_totals.c.daemon_id],
        set_={
            name: _totals.c[name] + _counted.excluded[name] for name in ("delivered", "failed")
        },
    ),
    "g_daemon_id", "g_delivered", "g_failed", "g_id", "g_claimed_by", "g_number",
)  # fmt: skip
"""Run before the delivery is finished: only an end that the claim still allows is counted."""
