"""What became of e-mails: written once, read by filters, forgotten by age."""

from collections.abc import Sequence

import sqlalchemy as sa

from econeura_daemon.core.jsons import dumps, loads
from econeura_daemon.storage import Connection, tables
from econeura_daemon.workers.model import Email, EmailStatus, Priority

_emails = tables.emails


def insert(connection: Connection, emails: Sequence[Email]) -> None:
    """Write down what became of e-mails."""
    rows = [
        {
            "id": one.id,
            "message_id": one.message_id,
            "organization_id": one.organization_id,
            "priority": one.priority.value,
            "status": one.status.value,
            "result": None if one.result is None else dumps(one.result).decode(),
            # Of what workers say; PostgreSQL has no NUL in texts.
            "error": None if one.error is None else one.error.replace("\0", "\ufffd"),
            "service_id": one.service_id,
            "response_time": one.response_time,
            "job_id": one.job_id,
            "recorded_at": one.recorded_at,
        }
        for one in emails
    ]
    if rows:
        connection.execute(sa.insert(_emails), rows)


def page(
    connection: Connection,
    *,
    status: EmailStatus | None = None,
    organization_id: str | None = None,
    message_id: str | None = None,
    before: str | None = None,
    limit: int,
) -> list[Email]:
    """Return those that fit, the latest first, from below the id ``before``."""
    query = sa.select(_emails).order_by(_emails.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(_emails.c.status == sa.literal_column(f"'{status.value}'"))
    if organization_id is not None:
        query = query.where(_emails.c.organization_id == organization_id)
    if message_id is not None:
        query = query.where(_emails.c.message_id == message_id)
    if before is not None:
        query = query.where(_emails.c.id < before)
    return [email_of(row) for row in connection.execute(query)]


def counts(connection: Connection, since: str) -> dict[str, int]:
    """Return how many with an id from ``since`` on ended in which way."""
    counted = (
        sa.select(_emails.c.status, sa.func.count().label("number"))
        .where(_emails.c.id >= since)
        .group_by(_emails.c.status)
    )
    return {row.status: row.number for row in connection.execute(counted)}


def forget(connection: Connection, before: str, most: int) -> int:
    """Delete up to ``most`` whose id is less than ``before``; return how many were."""
    old = sa.select(_emails.c.id).where(_emails.c.id < before).order_by(_emails.c.id).limit(most)
    return connection.execute(sa.delete(_emails).where(_emails.c.id.in_(old))).rowcount


def email_of(row: "sa.Row[tuple[object, ...]]") -> Email:
    """Return the row as a value."""
    return Email(
        id=row.id,
        message_id=row.message_id,
        organization_id=row.organization_id,
        priority=Priority(row.priority),
        status=EmailStatus(row.status),
        result=None if row.result is None else loads(row.result.encode()),
        error=row.error,
        service_id=row.service_id,
        response_time=row.response_time,
        job_id=row.job_id,
        recorded_at=row.recorded_at,
    )


def between(connection: Connection, after: str, until: str, limit: int) -> list[Email]:
    """Return up to ``limit`` in the order of their ids, from behind ``after`` on, those before ``until``."""
    query = sa.select(_emails).where(_emails.c.id > after, _emails.c.id < until)
    return [email_of(row) for row in connection.execute(query.order_by(_emails.c.id).limit(limit))]
