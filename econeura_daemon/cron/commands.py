"""What users say of jobs: the bodies of the API, checked."""

import attrs

from econeura_daemon.core.jobs import ActionBody, JobBody, check_job_id, check_task
from econeura_daemon.core.validators import optional
from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.expressions import Schedule


def check_schedule(_instance: object, _field: object, value: str) -> None:
    """Return if a schedule can be read and has a next tick; a validator."""
    try:
        schedule = Schedule.parse(value)
    except ScheduleError as error:
        raise ValueError(str(error)) from None
    if schedule.next_after(0) is None:
        raise ValueError("there is no such time in any year")


def check_zone(_instance: object, _field: object, value: str) -> None:
    """Return if there is such a time zone; a validator."""
    try:
        Schedule.parse("@daily", value)
    except ScheduleError as error:
        raise ValueError(error.detail) from None


@attrs.frozen(kw_only=True)
class EditedJob(JobBody):
    """What a job consists of and may be changed to: the body of ``PATCH`` once laid over what stands."""

    schedule: str = attrs.field(validator=check_schedule)
    """5 fields, 6 with seconds first, ``@hourly`` and its like, or ``@every 30s``."""
    time_zone: str = attrs.field(default="UTC", validator=check_zone)
    action: ActionBody = attrs.field(validator=check_task)


@attrs.frozen(kw_only=True)
class CreateJob(EditedJob):
    """The body of ``POST /v1/cron/jobs``. Without ``id`` one is made."""

    id: str | None = attrs.field(default=None, validator=optional(check_job_id))
