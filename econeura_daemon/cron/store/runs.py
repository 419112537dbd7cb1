"""What becomes of runs after they were claimed: recorded, given back, found again.

A claim carries the run of the daemon that made it, and on PostgreSQL a lease in the database's own time. How an
attempt ended is written only while the claim still holds: of two daemons that both believe in theirs, one finds
nothing to write.
"""

import logging
from collections.abc import Iterable, Sequence
from random import Random

import attrs
import sqlalchemy as sa

from econeura_daemon.cron.model import Claimed, Outcome, Run, RunStatus, RunTrigger
from econeura_daemon.cron.policies import backoff_ms
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.store import jobs as sql
from econeura_daemon.cron.store import statements as hot
from econeura_daemon.cron.store.instants import present
from econeura_daemon.storage import Connection, tables
from econeura_daemon.storage.dialect import now_ms, skip_locked
from econeura_daemon.storage.model import Claimant

_jobs = tables.cron_jobs
_runs = tables.cron_runs

BATCH = 500
UNKNOWN_ERROR = "the daemon stopped in mid-run: whether it came to its end is unknown"

_log = logging.getLogger(__name__)


@attrs.frozen
class Ended:
    """An attempt that ended; ``at``: by the daemon's own clock, in milliseconds since the epoch."""

    claimed: Claimed
    outcome: Outcome
    at: int


def record(
    connection: Connection, ended: Sequence[Ended], reports: Reports, claimant: Claimant, rng: Random
) -> list[None]:
    """Write how attempts ended, as far as the claims still hold: the run, its job's counts, the event."""
    reports.hold(connection)
    told: list[tuple[Run, str]] = []
    for one in sorted(ended, key=lambda one: one.claimed.run.job_id):
        now = present(connection, claimant, one.at)
        run, body, outcome = one.claimed.run, one.claimed.body, one.outcome
        failed = outcome.status is not RunStatus.SUCCEEDED
        again = failed and run.attempt <= body.retries
        status = RunStatus.QUEUED if again else outcome.status
        held = connection.rows(
            hot.FINISH,
            (
                status.value, now + backoff_ms(run.attempt, rng) if again else None, None if again else now,
                outcome.output, outcome.error, run.id, claimant.mark, run.attempt,
            ),
        )  # fmt: skip
        if held and not again:
            run = attrs.evolve(
                run, status=status, finished_at=now, output=outcome.output, error=outcome.error
            )
            finish(connection, run, body.pause_after_failures)
            told.append((run, body.name))
    reports.ended(connection, told, now if told else 0)
    return [None] * len(ended)


def finish(connection: Connection, run: Run, pause_after: int | None) -> None:
    """Count a run that came to its end, and let the next one go that waited for it."""
    assert run.finished_at is not None, "it came to its end"
    failed = run.status is not RunStatus.SUCCEEDED
    started = run.started_at or run.finished_at
    connection.run(hot.COUNT_END, [(int(failed), started, run.status.value, run.job_id)])
    connection.run(hot.RELEASE_NEXT, [(run.finished_at, run.job_id)])
    if failed and pause_after is not None:
        _pause(connection, run.job_id, pause_after, run.finished_at)


def _pause(connection: Connection, job_id: str, pause_after: int, now: int) -> None:
    job = sql.get_for_update(connection, job_id)
    if job is None or not job.body.enabled or job.failures_in_row < pause_after:
        return
    reason = f"{job.failures_in_row} runs failed one after the other"
    _log.warning("a job is disabled: %s", reason, extra={"job_id": job_id})
    body = attrs.evolve(job.body, enabled=False)
    sql.replace(
        connection, attrs.evolve(job, body=body, next_at=None, disabled_reason=reason, updated_at=now)
    )


def give_back(connection: Connection, claimed: Iterable[Claimed], now: int, claimant: Claimant) -> None:
    """Take back attempts that a drain cut off: nothing spent, due at once."""
    now = present(connection, claimant, now)
    rows = [(now, one.run.id, claimant.mark, one.run.attempt) for one in claimed]
    connection.run(hot.GIVE_BACK, rows)


def renew(connection: Connection, held: Iterable[Claimed], claimant: Claimant) -> None:
    """Prolong the leases of what this daemon has under way."""
    rows = [(claimant.lease_ms, one.run.id, claimant.mark, one.run.attempt) for one in held]
    connection.run(hot.RENEW, rows)


def claimed_by(connection: Connection, claimant: Claimant) -> list[str]:
    """Return the runs that this daemon has claimed."""
    mine = sa.select(_runs.c.id).where(hot.running, _runs.c.claimed_by == claimant.mark)
    return list(connection.execute(mine).scalars())


def recover(connection: Connection, now: int, reports: Reports, claimant: Claimant) -> list[str]:
    """Free what died with its claimant; return the runs.

    Claims of earlier runs of this daemon are dead (the lock on the state directory says so), those of other daemons
    once their lease lapsed.
    """
    earlier = sa.and_(
        _runs.c.claimed_by.startswith(claimant.daemon_id + "/", autoescape=True),
        _runs.c.claimed_by != claimant.mark,
    )
    lapsed = sa.and_(_runs.c.lease_until < now_ms(), _runs.c.claimed_by != claimant.mark)
    reports.hold(connection)
    dead = skip_locked(sa.select(_runs.c.id).where(hot.running, sa.or_(earlier, lapsed)))
    found = list(connection.execute(dead).scalars())
    free(connection, found, now, reports, claimant)
    return found


def free(
    connection: Connection, run_ids: Sequence[str], now: int, reports: Reports, claimant: Claimant
) -> None:
    """Free claims whose claimant is gone: the runs show as unknown, and are claimed again while retries remain."""
    reports.hold(connection)
    now = present(connection, claimant, now)
    for start in range(0, len(run_ids), BATCH):
        _free_some(connection, run_ids[start : start + BATCH], now, reports)


def _free_some(connection: Connection, run_ids: Sequence[str], now: int, reports: Reports) -> None:
    rows = connection.execute(sa.select(_runs).where(_runs.c.id.in_(run_ids), hot.running)).all()
    bodies = sql.names(connection, {row.job_id for row in rows})
    again, over, told = [], [], []
    for row in sorted(rows, key=lambda row: row.job_id):
        run, body = run_of(row), bodies.get(row.job_id)
        if body is not None and run.attempt <= body.retries:
            again.append(run.id)
            continue
        over.append(run.id)
        if body is not None:
            run = attrs.evolve(run, status=RunStatus.UNKNOWN, finished_at=now, error=UNKNOWN_ERROR)
            told.append((run, body))
    left = {
        "status": RunStatus.UNKNOWN.value,
        "error": UNKNOWN_ERROR,
        "claimed_by": None,
        "lease_until": None,
    }
    connection.execute(sa.update(_runs).where(_runs.c.id.in_(again)).values(start_after=now, **left))
    connection.execute(sa.update(_runs).where(_runs.c.id.in_(over)).values(finished_at=now, **left))
    for run, body in told:
        finish(connection, run, body.pause_after_failures)
    reports.ended(connection, [(run, body.name) for run, body in told], now)


def has_open(connection: Connection, job_id: str) -> bool:
    """Tell whether a run of the job has not come to an end."""
    open_run = sa.select(_runs.c.id).where(_runs.c.job_id == job_id, _runs.c.finished_at.is_(None)).limit(1)
    return connection.execute(open_run).first() is not None


def page(
    connection: Connection, job_id: str, status: RunStatus | None, before: str | None, limit: int
) -> list[Run]:
    """Return runs of a job, the latest tick first, from below the id ``before``."""
    query = sa.select(_runs).where(_runs.c.job_id == job_id).order_by(_runs.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(_runs.c.status == status.value)
    if before is not None:
        query = query.where(_runs.c.id < before)
    return [run_of(row) for row in connection.execute(query)]


def forget(connection: Connection, before: str, most: int) -> int:
    """Delete up to ``most`` ended runs whose id is less than ``before``; return how many were."""
    old = (
        sa.select(_runs.c.id)
        .where(_runs.c.id < before, _runs.c.finished_at.is_not(None))
        .order_by(_runs.c.id)
        .limit(most)
    )
    return connection.execute(sa.delete(_runs).where(_runs.c.id.in_(old))).rowcount


def run_of(row: "sa.Row[tuple[object, ...]]") -> Run:
    """Return the row as a value."""
    return Run(
        id=row.id,
        job_id=row.job_id,
        scheduled_for=row.scheduled_for,
        trigger=RunTrigger(row.trigger),
        status=RunStatus(row.status),
        attempt=row.attempt,
        started_at=row.started_at,
        finished_at=row.finished_at,
        output=row.output,
        error=row.error,
    )
