"""Cron: schedules, jobs, and the ticks that they owe.

Schedules are here at once. What keeps jobs is loaded when it is asked for: it brings the store and with it SQL, which
takes ten times as long as to say when an expression is due.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from econeura_daemon.cron.errors import ScheduleError, TaskFailedError
from econeura_daemon.cron.expressions import DstFold, DstGap, Schedule
from econeura_daemon.cron.remarks import Upcoming, upcoming

if TYPE_CHECKING:
    from econeura_daemon.cron.commands import CreateJob, EditedJob
    from econeura_daemon.cron.declared import schedule_flaws
    from econeura_daemon.cron.jobs import Jobs, job_json
    from econeura_daemon.cron.model import Job, Outcome, Run, RunStatus
    from econeura_daemon.cron.opening import Cron, open_cron
    from econeura_daemon.cron.reports import Reports, Told, told_by_the_daemon
    from econeura_daemon.cron.running import Call, Tasks
    from econeura_daemon.cron.store.looks import Look
else:
    _HOMES = {
        "commands": ("CreateJob", "EditedJob"),
        "declared": ("schedule_flaws",),
        "jobs": ("Jobs", "job_json"),
        "model": ("Job", "Outcome", "Run", "RunStatus"),
        "opening": ("Cron", "open_cron"),
        "reports": ("Reports", "Told", "told_by_the_daemon"),
        "running": ("Call", "Tasks"),
        "store.looks": ("Look",),
    }

    def __getattr__(name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    "TaskFailedError",
    "Tasks",
    "Told",
    "Upcoming",
    "job_json",
    "open_cron",
    "schedule_flaws",
    "told_by_the_daemon",
    "upcoming",
]
