"""When a job's next tick is: from the last one that has a run, never from the present alone."""

from collections.abc import Sequence

import attrs

from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.model import Job
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.schedules import schedule_of, unreadable
from econeura_daemon.cron.store import jobs as sql
from econeura_daemon.storage import Connection, Store

AHEAD_MS = 26 * 3600 * 1000
"""A day, and the hours that zones change by."""
BATCH = 1000
"""Jobs in one transaction."""


def rescheduled(job: Job, now: int) -> Job:
    """Return the job with its next tick computed anew; ``now`` in milliseconds since the epoch.

    What fell due meanwhile stays due, and what has a run is not due again, whatever the wall clock shows. Only what a
    clock did that was more than `AHEAD_MS` ahead does not count: a job must not stand still for years.

    A job whose schedule cannot be read any more is disabled: time zones go, as machines and their data do.
    """
    if not job.body.enabled:
        return attrs.evolve(job, next_at=None)
    marks = (job.counts_from, job.last_scheduled_at or job.counts_from)
    from_ = max((mark for mark in marks if mark - now <= AHEAD_MS), default=now)
    try:
        return attrs.evolve(job, next_at=schedule_of(job.body).next_after(from_))
    except ScheduleError as error:
        return unreadable(job, error, now)


async def reschedule_all(store: Store, reports: Reports, now: int) -> int:
    """Compute every job's next tick anew; return how many are another one than before."""
    after: str | None = ""
    changed = 0
    while after is not None:

        def work(connection: Connection, after: str = after) -> tuple[int, str | None]:
            reports.hold(connection)
            jobs = sql.page_for_update(connection, after, BATCH)
            return _reschedule(connection, jobs, now), jobs[-1].id if len(jobs) == BATCH else None

        some, after = await store.transact(work)
        changed += some
    return changed


def _reschedule(connection: Connection, jobs: Sequence[Job], now: int) -> int:
    changed = 0
    for job in jobs:
        new = rescheduled(job, now)
        if new.next_at != job.next_at:
            sql.replace(connection, new)
            changed += 1
    return changed
