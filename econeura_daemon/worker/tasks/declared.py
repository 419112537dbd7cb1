"""The six jobs as cron has them: declared by the program, scheduled by the settings, switched by users."""

import attrs

from econeura_daemon.core.errors import Flaw, SettingsError
from econeura_daemon.core.jobs import DAY_MS, HOUR_MS, ActionBody, ActionKind, Misfire
from econeura_daemon.core.settings import CronJobSettings
from econeura_daemon.core.settings_worker_jobs import WorkerJobsSettings
from econeura_daemon.cron import Schedule, ScheduleError

EMAIL_PROCESSING = "email_processing"
GRAPH_SYNC = "graph_sync"
CLEANUP = "cleanup"
HEALTH_CHECK = "health_check"
DAILY_REPORTS = "daily_reports"
WEEKLY_EXPORT = "weekly_export"

_MINUTE_MS = 60_000


@attrs.frozen(kw_only=True)
class _Kind:
    """What of a job is no setting. Durations in milliseconds."""

    name: str
    timeout_ms: int
    retries: int = 0
    misfire: Misfire = Misfire.LATEST
    misfire_window_ms: int = HOUR_MS


_KINDS = {
    EMAIL_PROCESSING: _Kind(name="Process mails that came in", timeout_ms=15 * _MINUTE_MS),
    GRAPH_SYNC: _Kind(name="Synchronise the index with the mail store", timeout_ms=15 * _MINUTE_MS),
    CLEANUP: _Kind(name="Forget what is old", timeout_ms=HOUR_MS),
    HEALTH_CHECK: _Kind(
        name="Look whether all is well", timeout_ms=50_000, misfire=Misfire.SKIP, misfire_window_ms=0
    ),
    # Each run knows the day or week that it is for, so those that fell due meanwhile are made up for.
    DAILY_REPORTS: _Kind(
        name="Report on the day before",
        timeout_ms=HOUR_MS,
        retries=2,
        misfire=Misfire.ALL,
        misfire_window_ms=7 * DAY_MS,
    ),
    WEEKLY_EXPORT: _Kind(
        name="Export the week before",
        timeout_ms=6 * HOUR_MS,
        retries=2,
        misfire=Misfire.ALL,
        misfire_window_ms=28 * DAY_MS,
    ),
}


def own_jobs(settings: WorkerJobsSettings, time_zone: str) -> list[CronJobSettings]:
    """Return the six jobs, due in a time zone. Raises `SettingsError` with every schedule that cannot be read."""
    flaws: dict[str, str] = {}
    for job_id in _KINDS:
        try:
            if Schedule.parse(_schedule(settings, job_id), time_zone).next_after(0) is None:
                flaws[f"worker.jobs.{job_id}"] = "there is no such time in any year"
        except ScheduleError as error:
            if error.field == "timeZone":
                flaws["worker.time_zone"] = error.detail
            else:
                flaws[f"worker.jobs.{job_id}"] = str(error)
    if flaws:
        raise SettingsError(
            [Flaw(path, message) for path, message in flaws.items()],
            "The jobs of the workers service do not fit",
        )
    return [
        CronJobSettings(
            id=job_id,
            schedule=_schedule(settings, job_id),
            time_zone=time_zone,
            action=ActionBody(kind=ActionKind.MAINTENANCE, task=job_id),
            **attrs.asdict(kind),
        )
        for job_id, kind in _KINDS.items()
    ]


def _schedule(settings: WorkerJobsSettings, job_id: str) -> str:
    schedule: str = getattr(settings, job_id)
    return schedule
