"""The schedule of a job, and what becomes of one that cannot be read."""

import logging
from itertools import islice

import attrs

from econeura_daemon.core.jobs import JobBody
from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.expressions import Schedule
from econeura_daemon.cron.model import Job

SHOWN_RUNS = 5
"""The next runs that a job shows."""

_log = logging.getLogger(__name__)


def schedule_of(body: JobBody) -> Schedule:
    """Return a job's schedule. Raises `ScheduleError`; what was stored was read before."""
    return Schedule.parse(
        body.schedule, body.time_zone, dst_gap=body.dst_gap.value, dst_fold=body.dst_fold.value
    )


def next_runs(body: JobBody, first: int | None) -> list[int]:
    """Return the ticks from ``first`` on, as many as a job shows."""
    if first is None:
        return []
    return [first, *islice(schedule_of(body).ticks_after(first), SHOWN_RUNS - 1)]


def unreadable(job: Job, error: ScheduleError, now: int) -> Job:
    """Return the job disabled, with the reason, since its schedule cannot be read any more."""
    _log.error("a job is disabled: %s", error, extra={"job_id": job.id})
    body = attrs.evolve(job.body, enabled=False)
    return attrs.evolve(job, body=body, next_at=None, disabled_reason=str(error), updated_at=now)
