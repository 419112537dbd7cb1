"""The local times of a cron expression: cronsim's days, without a zone.

What clocks do is `expressions`' matter: cronsim never sees a zone, so its own treatment of gaps and folds, which can
return a time in the past when it resumes inside a repeated hour, plays no part.
"""

from bisect import bisect_left, bisect_right
from copy import copy
from datetime import date, datetime, time, timedelta
from functools import lru_cache

from cronsim import CronSim, CronSimError

from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.fields import DAY_OF_MONTH, check_fields

_REFERENCE = date(2000, 1, 1)
"""In the 50 years that cronsim looks ahead from here every date falls on every weekday."""
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


class Calendar:
    """The local times that match five fields, or six with seconds first; raises ScheduleError."""

    def __init__(self, text: str) -> None:
        fields = check_fields(text.split())
        never = ScheduleError(DAY_OF_MONTH.name, f"no month of {text!r} has such a day: it would never run")
        try:
            times = CronSim(" ".join(fields), datetime.combine(_REFERENCE, time()))
            # Days alone are what cronsim searches here: from day to day it needs one step, within a day a bisection.
            self._days = CronSim(" ".join(["0", "0", "0", *fields[3:]]), datetime.combine(_REFERENCE, time()))
        except CronSimError:
            # The fields are good each for itself, so it is their days that never come together.
            raise never from None
        self._seconds, self._minutes, self._hours = (
            sorted(allowed) for allowed in (times.seconds, times.minutes, times.hours)
        )
        self._day_from = lru_cache(maxsize=8)(self._search)
        """The first day that matches, from one on: everything that is due soon asks for the same few."""
        self.real_time = any(field.startswith("*") for field in fields[:3])
        """Debian's *wildcard jobs*: what is due every so often, at whatever time the clocks show."""
        if self._day_from(_REFERENCE) is None:
            raise never

    def after(self, local: datetime) -> datetime | None:
        """Return the first match later than ``local``; None if there is none for 50 years."""
        today = local.date()
        day = self._day_from(today)
        if day == today:
            later = self._time_after(local.hour, local.minute, local.second)
            if later is not None:
                return datetime.combine(today, later)
            day = self._day_from(today + _DAY)
        first = time(self._hours[0], self._minutes[0], self._seconds[0])
        return None if day is None else datetime.combine(day, first)

    def from_(self, local: datetime) -> datetime | None:
        """Return the first match not earlier than ``local``."""
        return self.after(local - _SECOND)

    def _search(self, first: date) -> date | None:
        search = copy(self._days)
        search.dt = datetime.combine(first, time()) - _SECOND
        try:
            return next(search).date()
        except StopIteration:
            return None

    def _time_after(self, hour: int, minute: int, second: int) -> time | None:
        """Return the first time of a day later than the one given."""
        hours, minutes, seconds = self._hours, self._minutes, self._seconds
        at_hour, at_minute = bisect_left(hours, hour), bisect_left(minutes, minute)
        if at_hour == len(hours):
            return None
        if hours[at_hour] > hour:
            return time(hours[at_hour], minutes[0], seconds[0])
        if at_minute < len(minutes) and minutes[at_minute] == minute:
            at_second = bisect_right(seconds, second)
            if at_second < len(seconds):
                return time(hour, minute, seconds[at_second])
            at_minute += 1
        if at_minute < len(minutes):
            return time(hour, minutes[at_minute], seconds[0])
        return time(hours[at_hour + 1], minutes[0], seconds[0]) if at_hour + 1 < len(hours) else None


@lru_cache(maxsize=4096)
def calendar_of(text: str) -> Calendar:
    """Return the calendar of an expression, parsed once."""
    return Calendar(text)
