"""Jobs in the store."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from econeura_daemon.core.jobs import JobBody
from econeura_daemon.core.jsons import dumps, loads
from econeura_daemon.cron.model import Job, RunStatus
from econeura_daemon.cron.policies import offset_ms
from econeura_daemon.storage import Connection, tables

_jobs = tables.cron_jobs
_runs = tables.cron_runs

BATCH = 500
"""Ids in one statement."""
COUNTERS = ("run_count", "error_count", "missed_count", "skipped_count", "late_count")


def insert(connection: Connection, jobs: Sequence[Job]) -> None:
    """Write new jobs."""
    if jobs:
        connection.execute(sa.insert(_jobs), [_row(job) for job in jobs])


def replace(connection: Connection, job: Job) -> None:
    """Write all of a job but its counters, which only grow."""
    row = _row(job)
    connection.execute(sa.update(_jobs).where(_jobs.c.id == row.pop("id")).values(row))


def get(connection: Connection, job_id: str) -> Job | None:
    """Return the job."""
    row = connection.execute(sa.select(_jobs).where(_jobs.c.id == job_id)).first()
    return None if row is None else from_row(row)


def get_for_update(connection: Connection, job_id: str) -> Job | None:
    """Return the job and hold it against changes by others until the transaction ends."""
    row = connection.execute(sa.select(_jobs).where(_jobs.c.id == job_id).with_for_update()).first()
    return None if row is None else from_row(row)


def page(connection: Connection, after: str | None, limit: int) -> list[Job]:
    """Return jobs in the order of their ids, from behind the id ``after``."""
    query = sa.select(_jobs).order_by(_jobs.c.id).limit(limit)
    if after is not None:
        query = query.where(_jobs.c.id > after)
    return [from_row(row) for row in connection.execute(query)]


def page_for_update(connection: Connection, after: str, limit: int) -> list[Job]:
    """Return enabled jobs in the order of their ids, from behind ``after``, and hold them."""
    query = sa.select(_jobs).where(_jobs.c.enabled.is_(sa.true()), _jobs.c.id > after)
    return [
        from_row(row) for row in connection.execute(query.order_by(_jobs.c.id).limit(limit).with_for_update())
    ]


def declared(connection: Connection) -> list[Job]:
    """Return what configurations declare, and hold it against changes."""
    query = sa.select(_jobs).where(_jobs.c.declared_by.is_not(None)).order_by(_jobs.c.id).with_for_update()
    return [from_row(row) for row in connection.execute(query)]


def delete(connection: Connection, job_id: str) -> bool:
    """Delete a job and the history of its runs; return whether there was one."""
    connection.execute(sa.delete(_runs).where(_runs.c.job_id == job_id))
    return bool(connection.execute(sa.delete(_jobs).where(_jobs.c.id == job_id)).rowcount)


def names(connection: Connection, job_ids: Iterable[str]) -> dict[str, JobBody]:
    """Return what jobs are, by id."""
    ids = list(job_ids)
    found: dict[str, JobBody] = {}
    for start in range(0, len(ids), BATCH):
        query = sa.select(_jobs.c.id, _jobs.c.definition).where(_jobs.c.id.in_(ids[start : start + BATCH]))
        found |= {row.id: body_of(row.definition) for row in connection.execute(query)}
    return found


def stats(connection: Connection) -> dict[str, Any]:
    """Count jobs and what became of their ticks, under the keys of ``GET /v1/cron/stats``."""
    jobs = connection.execute(
        sa.select(
            sa.func.count().label("total"),
            sa.func.count(sa.case((_jobs.c.enabled.is_(sa.true()), 1))).label("enabled"),
            sa.func.count(_jobs.c.declared_by).label("declared"),
            sa.func.min(_jobs.c.next_at).label("next_at"),
            *(sa.func.coalesce(sa.func.sum(_jobs.c[name]), 0).label(name) for name in COUNTERS),
        )
    ).one()
    open_runs = connection.execute(
        sa.select(_runs.c.status, sa.func.count().label("open_runs"))
        .where(_runs.c.finished_at.is_(None))
        .group_by(_runs.c.status)
    )
    by_status: dict[str, int] = {row.status: row.open_runs for row in open_runs}
    running = by_status.pop(RunStatus.RUNNING, 0)
    return {
        "totalJobs": jobs.total,
        "enabledJobs": jobs.enabled,
        "declaredJobs": jobs.declared,
        "runningRuns": running,
        "queuedRuns": sum(by_status.values()),
        "runCount": int(jobs.run_count),
        "errorCount": int(jobs.error_count),
        "missedCount": int(jobs.missed_count),
        "skippedCount": int(jobs.skipped_count),
        "lateCount": int(jobs.late_count),
        "nextRun": jobs.next_at,
    }


@lru_cache(maxsize=8192)
def body_of(definition: str) -> JobBody:
    """Return what is stored of a job's definition; many jobs fall due again and again."""
    return JobBody.stored(loads(definition.encode()))


def from_row(row: Sequence[Any]) -> Job:
    """Return the row as a value; it holds the table's columns, in their order."""
    (
        key, declared_by, _enabled, definition, created_at, updated_at, counts_from, last_scheduled_at, next_at,
        _due_at, disabled_reason, failures_in_row, run_count, error_count, missed_count, skipped_count, late_count,
        last_run_at, last_status,
    ) = row  # fmt: skip
    return Job(
        id=key,
        body=body_of(definition),
        declared_by=declared_by,
        created_at=created_at,
        updated_at=updated_at,
        counts_from=counts_from,
        last_scheduled_at=last_scheduled_at,
        next_at=next_at,
        disabled_reason=disabled_reason,
        failures_in_row=failures_in_row,
        run_count=run_count,
        error_count=error_count,
        missed_count=missed_count,
        skipped_count=skipped_count,
        late_count=late_count,
        last_run_at=last_run_at,
        last_status=None if last_status is None else RunStatus(last_status),
    )


def _row(job: Job) -> dict[str, Any]:
    body = job.body
    return {
        "id": job.id,
        "declared_by": job.declared_by,
        "enabled": body.enabled,
        "definition": dumps(body.to_json()).decode(),
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "counts_from": job.counts_from,
        "last_scheduled_at": job.last_scheduled_at,
        "next_at": job.next_at,
        "due_at": None if job.next_at is None else job.next_at + offset_ms(job.id, body.jitter_ms),
        "disabled_reason": job.disabled_reason,
        "failures_in_row": job.failures_in_row,
    }
