"""What users say of jobs: the bodies of the API, checked."""

import attrs

from econeura_daemon.core.errors import Flaw
from econeura_daemon.core.jobs import ActionBody, JobBody, check_job_id, check_task
from econeura_daemon.core.validators import optional
from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.expressions import Schedule


def _check_schedule(_instance: object, _field: object, value: str) -> None:
    try:
        schedule = Schedule.parse(value)
    except ScheduleError as error:
        raise ValueError(str(error)) from None
    if schedule.next_after(0) is None:
        raise ValueError("there is no such time in any year")


def _check_zone(_instance: object, _field: object, value: str) -> None:
    try:
        Schedule.parse("@daily", value)
    except ScheduleError as error:
        raise ValueError(error.detail) from None


@attrs.frozen(kw_only=True)
class EditedJob(JobBody):
    """What a job consists of and may be changed to: the body of ``PATCH`` once laid over what stands."""

    schedule: str = attrs.field(validator=_check_schedule)
    """5 fields, 6 with seconds first, ``@hourly`` and its like, or ``@every 30s``."""
    time_zone: str = attrs.field(default="UTC", validator=_check_zone)
    action: ActionBody = attrs.field(validator=check_task)


@attrs.frozen(kw_only=True)
class CreateJob(EditedJob):
    """The body of ``POST /v1/cron/jobs``. Without ``id`` one is made."""

    id: str | None = attrs.field(default=None, validator=optional(check_job_id))


def schedule_flaws(body: JobBody) -> list[Flaw]:
    """Return what is wrong with the schedule of a job that the configuration declares; paths begin at the job."""
    flaws = []
    for name, check in (("schedule", _check_schedule), ("time_zone", _check_zone)):
        try:
            check(body, None, getattr(body, name))
        except ValueError as error:
            flaws.append(Flaw(f"$.{name}", str(error)))
    return flaws
