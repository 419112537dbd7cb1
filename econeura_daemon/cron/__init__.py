"""Cron: schedules, jobs, and the ticks that they owe."""

from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.expressions import DstFold, DstGap, Schedule
from econeura_daemon.cron.remarks import Upcoming, upcoming

__all__ = ["DstFold", "DstGap", "Schedule", "ScheduleError", "Upcoming", "upcoming"]
