"""Subscriptions in the store, and the generation that tells whether any of them changed."""

from collections.abc import Sequence
from typing import Any

import attrs
import sqlalchemy as sa

from econeura_daemon.core.jsons import dumps, loads
from econeura_daemon.storage import Connection, Hot, tables
from econeura_daemon.webhooks.model import RetryPolicy, Secret, Subscription

_GENERATION_KEY = "subscriptions.generation"
_GENERATION = Hot(sa.text(f"SELECT value FROM meta WHERE key = '{_GENERATION_KEY}'"))  # noqa: S608 - a constant

_SET_GENERATION = Hot(
    sa.text(
        f"INSERT INTO meta (key, value) VALUES ('{_GENERATION_KEY}', :token) "  # noqa: S608 - a constant
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    ),
    "token",
)

_subscriptions = tables.subscriptions
_patterns = tables.subscription_patterns

TAKERS = Hot(
    sa.select(_subscriptions)
    .join(_patterns, _patterns.c.subscription_id == _subscriptions.c.id)
    .where(_patterns.c.pattern == sa.bindparam("g_pattern"))
    .order_by(_patterns.c.subscription_id),
    "g_pattern",
)

_this = _subscriptions.c.id == sa.bindparam("g_id")
_NOTE_SUCCESS = Hot(
    sa.update(_subscriptions)
    .where(_this)
    .values(failure_count=0, first_failure_at=None, last_delivery_at=sa.bindparam("g_now")),
    "g_now", "g_id",
)  # fmt: skip
_NOTE_FAILURE = Hot(
    sa.update(_subscriptions)
    .where(_this)
    .values(
        failure_count=_subscriptions.c.failure_count + 1,
        first_failure_at=sa.func.coalesce(_subscriptions.c.first_failure_at, sa.bindparam("g_first")),
        last_delivery_at=sa.bindparam("g_now"),
    ),
    "g_first", "g_now", "g_id",
)  # fmt: skip


def generation(connection: Connection) -> str:
    """Return a token that is another one after each change of what events are matched against."""
    rows = connection.rows(_GENERATION)
    return rows[0][0] if rows else ""


def insert(connection: Connection, subscription: Subscription, token: str) -> None:
    """Write a new subscription; ``token`` becomes the generation."""
    connection.execute(sa.insert(_subscriptions).values(**_row(subscription)))
    _index_patterns(connection, subscription, token)


def replace(connection: Connection, subscription: Subscription, token: str) -> None:
    """Write what a user changed; counters are not touched. ``token`` becomes the generation."""
    row = _row(subscription)
    for name in ("id", "failure_count", "first_failure_at", "last_delivery_at"):
        del row[name]
    connection.execute(sa.update(_subscriptions).where(_subscriptions.c.id == subscription.id).values(**row))
    connection.execute(sa.delete(_patterns).where(_patterns.c.subscription_id == subscription.id))
    _index_patterns(connection, subscription, token)


def get(connection: Connection, subscription_id: str) -> Subscription | None:
    """Return the subscription, None if there is none or it was deleted."""
    row = connection.execute(_alive().where(_subscriptions.c.id == subscription_id)).first()
    return None if row is None else from_row(row)


def get_for_update(connection: Connection, subscription_id: str) -> Subscription | None:
    """Return the subscription and hold it against changes by others until the transaction ends."""
    row = connection.execute(_alive().where(_subscriptions.c.id == subscription_id).with_for_update()).first()
    return None if row is None else from_row(row)


def page(connection: Connection, before: str | None, limit: int) -> list[Subscription]:
    """Return subscriptions, newest first, from below the id ``before``."""
    query = _alive().order_by(_subscriptions.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(_subscriptions.c.id < before)
    return [from_row(row) for row in connection.execute(query)]


def takers(connection: Connection, pattern: str) -> list[tuple[Any, ...]]:
    """Return the rows of the active subscriptions that have the pattern, in the order of their ids.

    Hot, and one statement: whoever was not remembered is read on an event's way.
    """
    return connection.rows(TAKERS, (pattern,))


def by_ids(connection: Connection, ids: Sequence[str]) -> dict[str, Subscription]:
    """Return subscriptions by id, deleted ones too."""
    found: dict[str, Subscription] = {}
    for start in range(0, len(ids), 500):
        query = sa.select(_subscriptions).where(_subscriptions.c.id.in_(ids[start : start + 500]))
        found |= {row.id: from_row(row) for row in connection.execute(query)}
    return found


def count(connection: Connection) -> tuple[int, int]:
    """Return how many subscriptions there are, and how many of them are active."""
    row = connection.execute(
        sa.select(
            sa.func.count().label("total"),
            sa.func.count(sa.case((_subscriptions.c.active.is_(sa.true()), 1))).label("active"),
        ).where(_subscriptions.c.deleted_at.is_(None))
    ).one()
    return row.total, row.active


def note_success(connection: Connection, subscription_id: str, now: int) -> None:
    """A delivery was taken: the count of failures in a row ends."""
    connection.run(_NOTE_SUCCESS, [(now, subscription_id)])


def note_failure(connection: Connection, subscription_id: str, now: int) -> None:
    """An attempt failed: one more in a row."""
    connection.run(_NOTE_FAILURE, [(now, now, subscription_id)])


def disable(connection: Connection, subscription: Subscription, reason: str, now: int, token: str) -> bool:
    """Pause a subscription on the daemon's own account.

    Return False, and change nothing, if it is not active any more or has another URL by now.
    """
    subscription_id = subscription.id
    changed = connection.execute(
        sa.update(_subscriptions)
        .where(
            _subscriptions.c.id == subscription_id,
            _subscriptions.c.url == subscription.url,
            _subscriptions.c.active.is_(sa.true()),
        )
        .values(active=False, disabled_reason=reason, updated_at=now)
    ).rowcount
    if changed:
        connection.execute(sa.delete(_patterns).where(_patterns.c.subscription_id == subscription_id))
        connection.run(_SET_GENERATION, [(token,)])
    return bool(changed)


def from_row(row: Sequence[Any]) -> Subscription:
    """Return the row as a value; it begins with the table's columns, in their order."""
    (
        key, url, active, deleted_at, created_at, updated_at, description, patterns, headers, secrets,
        retry_policy, max_in_flight, disabled_reason, failure_count, first_failure_at, last_delivery_at,
    ) = row[:16]  # fmt: skip
    policy = None
    if retry_policy is not None:
        document = loads(retry_policy.encode())
        schedule = document.pop("schedule")
        policy = RetryPolicy(**document, schedule=None if schedule is None else tuple(schedule))
    return Subscription(
        id=key,
        url=url,
        patterns=tuple(loads(patterns.encode())),
        secrets=tuple(Secret(text, expires_at) for text, expires_at in loads(secrets.encode())),
        active=bool(active),
        created_at=created_at,
        updated_at=updated_at,
        description=description,
        headers=loads(headers.encode()),
        retry_policy=policy,
        max_in_flight=max_in_flight,
        disabled_reason=disabled_reason,
        failure_count=failure_count,
        first_failure_at=first_failure_at,
        last_delivery_at=last_delivery_at,
        deleted=deleted_at is not None,
    )


def _alive() -> sa.Select[Any]:
    return sa.select(_subscriptions).where(_subscriptions.c.deleted_at.is_(None))


def _row(subscription: Subscription) -> dict[str, Any]:
    policy = subscription.retry_policy
    return {
        "id": subscription.id,
        "url": subscription.url,
        "active": subscription.active,
        "deleted_at": subscription.updated_at if subscription.deleted else None,
        "created_at": subscription.created_at,
        "updated_at": subscription.updated_at,
        "description": subscription.description,
        "patterns": dumps(subscription.patterns).decode(),
        "headers": dumps(dict(subscription.headers)).decode(),
        "secrets": dumps([[secret.text, secret.expires_at] for secret in subscription.secrets]).decode(),
        "retry_policy": None if policy is None else dumps(attrs.asdict(policy, recurse=False)).decode(),
        "max_in_flight": subscription.max_in_flight,
        "disabled_reason": subscription.disabled_reason,
        "failure_count": subscription.failure_count,
        "first_failure_at": subscription.first_failure_at,
        "last_delivery_at": subscription.last_delivery_at,
    }


def _index_patterns(connection: Connection, subscription: Subscription, token: str) -> None:
    """Keep what events are matched against: patterns of active subscriptions only, and a new generation."""
    if subscription.active and not subscription.deleted:
        rows = [
            {"pattern": pattern, "subscription_id": subscription.id}
            for pattern in dict.fromkeys(subscription.patterns)
        ]
        connection.execute(sa.insert(_patterns), rows)
    connection.run(_SET_GENERATION, [(token,)])
