"""Cron: schedules, jobs, and the ticks that they owe."""

from econeura_daemon.cron.commands import CreateJob, EditedJob
from econeura_daemon.cron.declared import check_declared
from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.expressions import DstFold, DstGap, Schedule
from econeura_daemon.cron.jobs import Jobs, job_json
from econeura_daemon.cron.model import Job, Outcome, Run, RunStatus
from econeura_daemon.cron.opening import Cron, open_cron
from econeura_daemon.cron.remarks import Upcoming, upcoming
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.running import Call, Tasks
from econeura_daemon.cron.store.ticks import Look

__all__ = [
    "Call",
    "CreateJob",
    "Cron",
    "DstFold",
    "DstGap",
    "EditedJob",
    "Job",
    "Jobs",
    "Look",
    "Outcome",
    "Reports",
    "Run",
    "RunStatus",
    "Schedule",
    "ScheduleError",
    "Tasks",
    "Upcoming",
    "check_declared",
    "job_json",
    "open_cron",
    "upcoming",
]
