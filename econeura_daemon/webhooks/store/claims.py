"""The life of a delivery in the store: born, claimed, recorded, given back, recovered.

A claim carries the run of the daemon that made it, and on PostgreSQL a lease in the database's own time. What
comes back from an attempt is written only while the claim still holds: of two daemons that both believe in
their claim, one finds nothing to write.
"""

from collections.abc import Iterable, Sequence

import attrs
import sqlalchemy as sa
from sqlalchemy import bindparam as given

from econeura_daemon.core.jsons import dumps
from econeura_daemon.storage import Connection, Hot, tables
from econeura_daemon.storage.dialect import insert as insert_or
from econeura_daemon.storage.dialect import now_ms
from econeura_daemon.webhooks.model import AttemptOutcome, AttemptStatus, DeliveryStatus, Outgoing, Subscription
from econeura_daemon.webhooks.schedule import describe
from econeura_daemon.webhooks.store import subscriptions

_deliveries = tables.deliveries
_attempts = tables.attempts
_events = tables.events


def waiting(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Say "waits for an attempt" as the partial index says it: a bound value would not let it be used."""
    name = table.name  # type: ignore[attr-defined]
    return sa.literal_column(f"{name}.status IN ('pending', 'retrying')", sa.Boolean)


_delivering = sa.literal_column("deliveries.status = 'delivering'", sa.Boolean)

_INSERT_DELIVERY = Hot(
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

_INSERT_ATTEMPT = Hot(
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
_due = (
    sa.select(_candidates.c.id)
    .where(
        _candidates.c.subscription_id == given("g_subscription_id"),
        waiting(_candidates),
        _candidates.c.next_attempt_at <= given("g_now"),
    )
    .order_by(_candidates.c.next_attempt_at, _candidates.c.event_cursor)
    .limit(given("g_limit", type_=sa.Integer))
    .with_for_update(skip_locked=True)
    .cte("due")  # a subquery might be run again for each row, and claim more than it may
)
_CLAIM = Hot(
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

_NEXT_DUE = Hot(
    sa.select(_deliveries.c.next_attempt_at)
    .where(_deliveries.c.subscription_id == given("g_subscription_id"), waiting(_deliveries))
    .order_by(_deliveries.c.next_attempt_at)
    .limit(1),
    "g_subscription_id",
)

_EVENT = Hot(
    sa.select(_events.c.type, _events.c.body, _events.c.trace).where(_events.c.id == given("g_id")), "g_id"
)

_held = (_deliveries.c.id == given("g_id"), _delivering, _deliveries.c.claimed_by == given("g_claimed_by"))

_FINISH_ATTEMPT = Hot(
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
_FINISH_DELIVERY = Hot(
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
)  # fmt: skip

_FORGET_ATTEMPT = Hot(
    sa.delete(_attempts).where(
        _attempts.c.delivery_id == given("g_delivery_id"),
        _attempts.c.number == given("g_number"),
        _attempts.c.status == AttemptStatus.STARTED.value,
    ),
    "g_delivery_id", "g_number",
)  # fmt: skip
_GIVE_BACK = Hot(
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
    "g_status", "g_next_attempt_at", "g_last_attempt_at", "g_id", "g_claimed_by",
)  # fmt: skip

_RENEW = Hot(
    sa.update(_deliveries)
    .where(*_held)
    .values(lease_until=now_ms() + given("g_lease", type_=sa.BigInteger)),
    "g_lease", "g_id", "g_claimed_by",
)  # fmt: skip

_totals = tables.delivery_totals
_counted = insert_or(_totals).values(
    daemon_id=given("g_daemon_id"),
    created=given("g_created"),
    delivered=0,
    failed=0,
    canceled=given("g_canceled"),
)
_COUNT = Hot(
    _counted.on_conflict_do_update(
        index_elements=[_totals.c.daemon_id],
        set_={name: _totals.c[name] + _counted.excluded[name] for name in ("created", "canceled")},
    ),
    "g_daemon_id", "g_created", "g_canceled",
)  # fmt: skip

_ended = sa.select(
    given("g_daemon_id", type_=sa.Text), sa.literal(0), given("g_delivered", type_=sa.BigInteger),
    given("g_failed", type_=sa.BigInteger), sa.literal(0),
).where(sa.exists(sa.select(_deliveries.c.id).where(*_held)))  # fmt: skip
_COUNT_END = Hot(
    insert_or(_totals)
    .from_select(["daemon_id", "created", "delivered", "failed", "canceled"], _ended)
    .on_conflict_do_update(
        index_elements=[_totals.c.daemon_id],
        set_={
            name: _totals.c[name] + _counted.excluded[name] for name in ("delivered", "failed")
        },
    ),
    "g_daemon_id", "g_delivered", "g_failed", "g_id", "g_claimed_by",
)  # fmt: skip
"""Run before the delivery is finished: only an end that the claim still allows is counted."""

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
    connection.run(_INSERT_DELIVERY, rows)
    _count(connection, claimant, created=len(rows))
    if attempts:
        connection.run(_INSERT_ATTEMPT, attempts)


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
        rows = connection.rows(_CLAIM, (key, now, limit, claimant.mark, claimant.lease_ms))
        for delivery_id, event_id, number, max_attempts, created_at in rows:
            found = connection.rows(_EVENT, (event_id,))
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
        connection.run(_INSERT_ATTEMPT, attempts)
    return outgoing, due


def next_due(connection: Connection, subscription_id: str) -> int | None:
    """Return when the first waiting delivery of the subscription is due, None if none waits."""
    rows = connection.rows(_NEXT_DUE, (subscription_id,))
    return rows[0][0] if rows else None


def record(
    connection: Connection,
    outgoing: Outgoing,
    outcome: AttemptOutcome,
    status: DeliveryStatus,
    next_attempt_at: int | None,
    claimant: Claimant,
) -> None:
    """Write how an attempt ended and where that leaves its delivery, if the claim still holds."""
    headers = outcome.response_headers
    connection.run(_FINISH_ATTEMPT, [(
        (AttemptStatus.SUCCEEDED if outcome.succeeded else AttemptStatus.FAILED).value,
        outcome.duration_ms, outcome.status_code, outcome.error,
        None if headers is None else dumps(dict(headers)).decode(), outcome.response_body,
        outgoing.delivery_id, outgoing.number,
    )])  # fmt: skip
    ends = (int(status is DeliveryStatus.DELIVERED), int(status is DeliveryStatus.FAILED))
    if any(ends):
        connection.run(
            _COUNT_END, [(claimant.daemon_id, *ends, outgoing.delivery_id, claimant.mark)]
        )
    connection.run(_FINISH_DELIVERY, [(
        status.value, next_attempt_at, None if outcome.succeeded else describe(outcome), outcome.status_code, outcome.duration_ms,
        outgoing.delivery_id, claimant.mark,
    )])  # fmt: skip


def give_back(connection: Connection, outgoing: Iterable[Outgoing], now: int, claimant: Claimant) -> None:
    """Take back attempts that a drain cut off: no trace of them, nothing spent, due at once."""
    forgotten, returned = [], []
    for one in outgoing:
        status = DeliveryStatus.PENDING if one.number == 1 else DeliveryStatus.RETRYING
        forgotten.append((one.delivery_id, one.number))
        returned.append((status.value, now, None, one.delivery_id, claimant.mark))
    connection.run(_FORGET_ATTEMPT, forgotten)
    connection.run(_GIVE_BACK, returned)


def renew(connection: Connection, ids: Iterable[str], claimant: Claimant) -> None:
    """Prolong the leases of deliveries that this run has claimed."""
    connection.run(_RENEW, [(claimant.lease_ms, key, claimant.mark) for key in ids])


def claimed(connection: Connection, claimant: Claimant) -> list[str]:
    """Return the deliveries that this run has claimed."""
    mine = sa.select(_deliveries.c.id).where(_delivering, _deliveries.c.claimed_by == claimant.mark)
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
    lapsed = _deliveries.c.lease_until < now_ms()
    dead = sa.and_(_delivering, sa.or_(earlier, lapsed))
    found = connection.execute(
        sa.select(_deliveries.c.id, _deliveries.c.subscription_id).where(dead).with_for_update(skip_locked=True)
    ).all()
    free(connection, [row.id for row in found], now)
    return sorted({row.subscription_id for row in found})


def free(connection: Connection, ids: Sequence[str], now: int) -> None:
    """Free claims whose claimant is gone: their attempt shows as unknown and counts; due at once."""
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        connection.execute(
            sa.update(_attempts)
            .where(_attempts.c.delivery_id.in_(some), _attempts.c.status == AttemptStatus.STARTED.value)
            .values(status=AttemptStatus.UNKNOWN.value, error=UNKNOWN_ERROR)
        )
        connection.execute(
            sa.update(_deliveries)
            .where(_deliveries.c.id.in_(some), _delivering)
            .values(
                status=DeliveryStatus.RETRYING.value,
                next_attempt_at=now,
                last_error=UNKNOWN_ERROR,
                claimed_by=None,
                lease_until=None,
            )
        )


def cancel_some(connection: Connection, subscription_id: str, most: int, claimant: Claimant) -> int:
    """Cancel up to ``most`` unfinished deliveries of a subscription; return how many were."""
    unfinished = sa.or_(waiting(_deliveries), _delivering)
    ids = (
        sa.select(_deliveries.c.id)
        .where(_deliveries.c.subscription_id == subscription_id, unfinished)
        .limit(most)
    )
    canceled = connection.execute(
        sa.update(_deliveries)
        .where(_deliveries.c.id.in_(ids))
        .values(
            status=DeliveryStatus.CANCELED.value, next_attempt_at=None, claimed_by=None, lease_until=None
        )
    ).rowcount
    _count(connection, claimant, canceled=canceled)
    return canceled


def _count(connection: Connection, claimant: Claimant, *, created: int = 0, canceled: int = 0) -> None:
    connection.run(_COUNT, [(claimant.daemon_id, created, canceled)])


def waiting_lanes(connection: Connection) -> list[tuple[Subscription, int]]:
    """Return active subscriptions for which something waits, and when the first of it is due.

    One look into the index a subscription, whatever the backlog.
    """
    first = (
        sa.select(_deliveries.c.next_attempt_at)
        .where(_deliveries.c.subscription_id == tables.subscriptions.c.id, waiting(_deliveries))
        .order_by(_deliveries.c.next_attempt_at)
        .limit(1)
        .correlate(tables.subscriptions)
        .scalar_subquery()
    )
    active = sa.select(tables.subscriptions, first.label("due_at")).where(
        tables.subscriptions.c.active.is_(sa.true())
    )
    rows = connection.execute(active)
    return [(subscriptions.from_row(row), row.due_at) for row in rows if row.due_at is not None]


def deleted_with_rest(connection: Connection) -> list[str]:
    """Return deleted subscriptions that are still owed something."""
    owed = sa.exists().where(
        _deliveries.c.subscription_id == tables.subscriptions.c.id, waiting(_deliveries)
    )
    query = sa.select(tables.subscriptions.c.id).where(
        tables.subscriptions.c.deleted_at.is_not(None), owed
    )
    return list(connection.execute(query).scalars())
