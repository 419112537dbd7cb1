"""The first answers to requests that bore an Idempotency-Key, kept in the transaction of what they answer."""

import attrs
import sqlalchemy as sa

from econeura_daemon.core.errors import EconeuraError
from econeura_daemon.storage.connection import Connection
from econeura_daemon.storage.hot import Hot
from econeura_daemon.storage.tables import idempotency_keys as _keys

SWEEP = 4
"""Rows too old to count that each new key removes: more than come in, so that none stay for good."""

_FIND = Hot(
    sa.text(
        "SELECT body_hash, created_at, status, response FROM idempotency_keys "
        "WHERE scope = :scope AND key = :key AND created_at > :since"
    ),
    "scope", "key", "since",
)  # fmt: skip
_FORGET = Hot(sa.text("DELETE FROM idempotency_keys WHERE scope = :scope AND key = :key"), "scope", "key")
_INSERT = Hot(
    sa.text(
        "INSERT INTO idempotency_keys (scope, key, body_hash, created_at, status, response) "
        "VALUES (:scope, :key, :body_hash, :created_at, :status, :response)"
    ),
    "scope", "key", "body_hash", "created_at", "status", "response",
)  # fmt: skip


@attrs.frozen(kw_only=True)
class Remembered:
    """A first answer, or what is needed to give it again."""

    body_hash: bytes
    """SHA-256 of the request's body."""
    created_at: int
    """Milliseconds since the epoch."""
    status: int
    response: bytes = attrs.field(repr=False)
    """What the API keeps of the answer; its form is the API's own."""


class KeyTakenError(EconeuraError):
    """The key was used before: nothing of this transaction may stay."""

    def __init__(self, first: Remembered) -> None:
        super().__init__("The idempotency key was used before")
        self.first = first


def find(connection: Connection, scope: str, key: str, *, since: int) -> Remembered | None:
    """Return the answer that was given under the key after ``since`` (milliseconds)."""
    rows = connection.rows(_FIND, (scope, key, since))
    if not rows:
        return None
    body_hash, created_at, status, response = rows[0]
    return Remembered(
        body_hash=bytes(body_hash), created_at=created_at, status=status, response=bytes(response)
    )


def remember(connection: Connection, scope: str, key: str, answer: Remembered, *, since: int) -> None:
    """Keep the answer under the key; forget a few that are not newer than ``since`` (milliseconds).

    Raises `KeyTakenError` if the key was used after ``since``: by another daemon on the same store, or by a
    request whose client went away before its work was done. The lock is what makes the two take turns.
    """
    connection.lock(f"idempotency {scope} {key}")
    first = find(connection, scope, key, since=since)
    if first is not None:
        raise KeyTakenError(first)
    connection.run(_FORGET, [(scope, key)])
    connection.run(
        _INSERT, [(scope, key, answer.body_hash, answer.created_at, answer.status, answer.response)]
    )
    forget_old(connection, since=since, limit=SWEEP)


def forget_old(connection: Connection, *, since: int, limit: int) -> int:
    """Remove up to ``limit`` answers that are not newer than ``since`` (milliseconds), the oldest first.

    Returns how many were.
    """
    old = (
        sa.select(_keys.c.scope, _keys.c.key)
        .where(_keys.c.created_at <= since)
        .order_by(_keys.c.created_at)
        .limit(limit)
    )
    return connection.execute(sa.delete(_keys).where(sa.tuple_(_keys.c.scope, _keys.c.key).in_(old))).rowcount
