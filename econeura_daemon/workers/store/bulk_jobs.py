"""Bulk jobs and their items: claimed by one daemon at a time, worked off chunk by chunk, each chunk once.

A chunk is recorded whole: its e-mails, their items, the job's counts, in one transaction and only while the claim
holds. So a job that is taken up again goes on with the chunks that have no record.
"""

from collections.abc import Sequence

import attrs
import sqlalchemy as sa

from econeura_daemon.core.jsons import dumps, loads
from econeura_daemon.storage import Connection, tables
from econeura_daemon.storage.dialect import now_ms, skip_locked
from econeura_daemon.storage.model import Claimant
from econeura_daemon.workers.chunks import CHUNK, Item
from econeura_daemon.workers.model import BulkJob, Email, EmailStatus, JobStatus, Priority
from econeura_daemon.workers.store import emails as emails_sql

_jobs = tables.bulk_jobs
_items = tables.bulk_items
_emails = tables.emails

_FREE = {"claimed_by": None, "lease_until": None}


@attrs.frozen(kw_only=True)
class Placed:
    """An item where it stands in its job."""

    place: int
    item: Item


def insert(connection: Connection, job: BulkJob, message_ids: Sequence[str]) -> None:
    """Write a job down, for whoever has room."""
    connection.execute(
        sa.insert(_jobs).values(
            id=job.id,
            organization_id=job.organization_id,
            priority=job.priority.value,
            metadata=dumps(job.metadata).decode(),
            status=job.status.value,
            total=job.total,
            is_canceled=False,
            created_at=job.created_at,
            start_after=job.created_at,
        )
    )
    connection.execute(
        sa.insert(_items),
        [{"job_id": job.id, "place": place, "message_id": one} for place, one in enumerate(message_ids)],
    )


def get(connection: Connection, job_id: str) -> BulkJob | None:
    """Return the job."""
    row = connection.execute(sa.select(_jobs).where(_jobs.c.id == job_id)).first()
    return None if row is None else _job(row)


def page(connection: Connection, *, before: str | None, limit: int) -> list[BulkJob]:
    """Return jobs, the latest first, from below the id ``before``."""
    query = sa.select(_jobs).order_by(_jobs.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(_jobs.c.id < before)
    return [_job(row) for row in connection.execute(query)]


def results(connection: Connection, job_id: str, *, after: int | None, limit: int) -> list[Placed]:
    """Return what became of the job's e-mails so far, in the order asked, from behind the place ``after``."""
    query = (
        sa.select(_items.c.place, _emails)
        .join(_emails, _emails.c.id == _items.c.email_id)
        .where(_items.c.job_id == job_id)
        .order_by(_items.c.place)
        .limit(limit)
    )
    if after is not None:
        query = query.where(_items.c.place > after)
    return [
        Placed(place=row.place, item=_item(emails_sql.email_of(row))) for row in connection.execute(query)
    ]


def open_chunks(connection: Connection, job_id: str) -> list[tuple[int, tuple[str, ...]]]:
    """Return the chunks that have no record, with their numbers."""
    query = (
        sa.select(_items.c.place, _items.c.message_id)
        .where(_items.c.job_id == job_id, _items.c.email_id.is_(None))
        .order_by(_items.c.place)
    )
    found: dict[int, list[str]] = {}
    for row in connection.execute(query):
        found.setdefault(row.place // CHUNK, []).append(row.message_id)
    return [(number, tuple(ids)) for number, ids in found.items()]


def claim(connection: Connection, claimant: Claimant, now: int, *, most: int, of_one: int) -> list[BulkJob]:
    """Claim up to ``most`` jobs that wait, and return them.

    Organizations take turns, each with its oldest; of one, this daemon works on ``of_one`` at once.
    """
    held = (
        sa.select(_jobs.c.organization_id, sa.func.count().label("number"))
        .where(_jobs.c.claimed_by.is_not(None), _jobs.c.claimed_by == claimant.mark)
        .group_by(_jobs.c.organization_id)
        .subquery()
    )
    in_line = (
        sa.select(
            _jobs.c.id,
            _jobs.c.organization_id,
            sa.func.row_number()
            .over(partition_by=_jobs.c.organization_id, order_by=(_jobs.c.start_after, _jobs.c.id))
            .label("place"),
        )
        .where(_jobs.c.start_after.is_not(None))
        .subquery()
    )
    turn = in_line.c.place + sa.func.coalesce(held.c.number, 0)
    chosen = (
        sa.select(in_line.c.id)
        .join_from(in_line, held, held.c.organization_id == in_line.c.organization_id, isouter=True)
        .where(turn <= of_one)
        .order_by(turn, in_line.c.id)
        .limit(most)
    )
    free = skip_locked(sa.select(_jobs.c.id).where(_jobs.c.start_after.is_not(None), _jobs.c.id.in_(chosen)))
    ids = list(connection.execute(free).scalars())
    if not ids:
        return []
    lease = None if claimant.lease_ms is None else now_ms() + claimant.lease_ms
    connection.execute(
        sa.update(_jobs)
        .where(_jobs.c.id.in_(ids))
        .values(
            status=JobStatus.RUNNING.value,
            started_at=sa.func.coalesce(_jobs.c.started_at, now),
            start_after=None,
            claimed_by=claimant.mark,
            lease_until=lease,
        )
    )
    rows = connection.execute(sa.select(_jobs).where(_jobs.c.id.in_(ids)).order_by(_jobs.c.id))
    return [_job(row) for row in rows]


def record(
    connection: Connection, job_id: str, claimant: Claimant, number: int, emails: Sequence[Email]
) -> BulkJob | None:
    """Write a chunk down; return the job as it is then, or None if the claim does not hold any more."""
    good = sum(one.status is EmailStatus.SUCCEEDED for one in emails)
    counted = connection.execute(
        sa.update(_jobs)
        .where(_jobs.c.id == job_id, _jobs.c.claimed_by == claimant.mark)
        .values(
            done=_jobs.c.done + len(emails),
            successful=_jobs.c.successful + good,
            failed=_jobs.c.failed + len(emails) - good,
        )
    )
    if counted.rowcount != 1:
        return None
    emails_sql.insert(connection, emails)
    placed = (
        sa.update(_items)
        .where(_items.c.job_id == job_id, _items.c.place == sa.bindparam("at"))
        .values(email_id=sa.bindparam("email"))
    )
    first = number * CHUNK
    rows = [{"at": first + offset, "email": one.id} for offset, one in enumerate(emails)]
    connection.execute(placed, rows)
    return get(connection, job_id)


def finish(connection: Connection, job: BulkJob, now: int) -> BulkJob:
    """Bring the job to its end, and return it so."""
    ended = attrs.evolve(job, status=job.end, finished_at=now)
    connection.execute(
        sa.update(_jobs)
        .where(_jobs.c.id == job.id)
        .values(status=ended.status.value, finished_at=now, start_after=None, **_FREE)
    )
    return ended


def cancel(connection: Connection, job_id: str) -> tuple[BulkJob, bool] | None:
    """Ask for the job's end; return it, and whether nobody works on it. None: there is no such job."""
    connection.execute(
        sa.update(_jobs).where(_jobs.c.id == job_id, _jobs.c.finished_at.is_(None)).values(is_canceled=True)
    )
    row = connection.execute(sa.select(_jobs).where(_jobs.c.id == job_id)).first()
    if row is None:
        return None
    return _job(row), row.claimed_by is None and row.finished_at is None


def give_back(connection: Connection, job_ids: Sequence[str], claimant: Claimant) -> None:
    """Leave jobs to whoever has room next."""
    connection.execute(
        sa.update(_jobs)
        .where(_jobs.c.id.in_(job_ids), _jobs.c.claimed_by == claimant.mark)
        .values(status=JobStatus.QUEUED.value, start_after=0, **_FREE)
    )


def renew(connection: Connection, held: Sequence[str], claimant: Claimant) -> None:
    """Prolong the leases of what this daemon works on."""
    connection.execute(
        sa.update(_jobs)
        .where(_jobs.c.id.in_(held), _jobs.c.claimed_by == claimant.mark)
        .values(lease_until=now_ms() + (claimant.lease_ms or 0))
    )


def claimed_by(connection: Connection, claimant: Claimant) -> list[str]:
    """Return the jobs that this daemon has claimed."""
    return list(
        connection.execute(
            sa.select(_jobs.c.id).where(_jobs.c.claimed_by.is_not(None), _jobs.c.claimed_by == claimant.mark)
        ).scalars()
    )


def recover(connection: Connection, claimant: Claimant) -> list[str]:
    """Free what died with its claimant; return the jobs. See `cron.store.runs.recover`."""
    earlier = sa.and_(
        _jobs.c.claimed_by.startswith(claimant.daemon_id + "/", autoescape=True),
        _jobs.c.claimed_by != claimant.mark,
    )
    lapsed = sa.and_(_jobs.c.lease_until < now_ms(), _jobs.c.claimed_by != claimant.mark)
    dead = skip_locked(sa.select(_jobs.c.id).where(_jobs.c.claimed_by.is_not(None), sa.or_(earlier, lapsed)))
    found = list(connection.execute(dead).scalars())
    if found:
        connection.execute(
            sa.update(_jobs)
            .where(_jobs.c.id.in_(found))
            .values(status=JobStatus.QUEUED.value, start_after=0, **_FREE)
        )
    return found


def forget(connection: Connection, before: str, most: int) -> int:
    """Delete up to ``most`` ended jobs whose id is less than ``before``, with their items; return how many were."""
    old = (
        sa.select(_jobs.c.id)
        .where(_jobs.c.id < before, _jobs.c.finished_at.is_not(None))
        .order_by(_jobs.c.id)
        .limit(most)
    )
    ids = list(connection.execute(old).scalars())
    if ids:
        connection.execute(sa.delete(_items).where(_items.c.job_id.in_(ids)))
        connection.execute(sa.delete(_jobs).where(_jobs.c.id.in_(ids)))
    return len(ids)


def _item(email: Email) -> Item:
    return Item(
        message_id=email.message_id,
        result=email.result,
        error=email.error,
        service_id=email.service_id,
        response_time=email.response_time,
    )


def _job(row: "sa.Row[tuple[object, ...]]") -> BulkJob:
    return BulkJob(
        id=row.id,
        organization_id=row.organization_id,
        priority=Priority(row.priority),
        metadata={} if row.metadata is None else loads(row.metadata.encode()),
        status=JobStatus(row.status),
        total=row.total,
        done=row.done,
        successful=row.successful,
        failed=row.failed,
        is_canceled=row.is_canceled,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
