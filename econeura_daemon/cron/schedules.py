"""The schedule of a job."""

from econeura_daemon.core.jobs import JobBody
from econeura_daemon.cron.expressions import Schedule

SHOWN_RUNS = 5
"""The next runs that a job shows."""


def schedule_of(body: JobBody) -> Schedule:
    """Return a job's schedule. Raises `ScheduleError`; what was stored was read before."""
    return Schedule.parse(
        body.schedule, body.time_zone, dst_gap=body.dst_gap.value, dst_fold=body.dst_fold.value
    )


def next_runs(body: JobBody, first: int | None) -> list[int]:
    """Return the ticks from ``first`` on, as many as a job shows."""
    found: list[int] = []
    schedule, tick = schedule_of(body), first
    while tick is not None and len(found) < SHOWN_RUNS:
        found.append(tick)
        tick = schedule.next_after(tick)
    return found
