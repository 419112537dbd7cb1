"""The local times of a cron expression: cronsim's search, without a zone.

What clocks do is `wall_time`'s and `expressions`' matter: cronsim never sees a zone, so its own treatment of gaps and
folds, which can return a time in the past when it resumes inside a repeated hour, plays no part.
"""

from copy import copy
from datetime import datetime, timedelta
from functools import lru_cache

from cronsim import CronSim, CronSimError

from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.fields import DAY_OF_MONTH, check_fields

_REFERENCE = datetime(2000, 1, 1)  # noqa: DTZ001 - a local time
"""In the 50 years that cronsim looks ahead from here every date falls on every weekday."""
_SECOND = timedelta(seconds=1)


class Calendar:
    """The local times that match five fields, or six with seconds first; raises ScheduleError."""

    def __init__(self, text: str) -> None:
        self.text = text
        fields = check_fields(text.split())
        try:
            self._sim = CronSim(" ".join(fields), _REFERENCE)
        except CronSimError:
            # The fields are good each for itself, so it is their days that never come together.
            raise self._never() from None
        if self.from_(_REFERENCE) is None:
            raise self._never()
        self.real_time = any(field.startswith("*") for field in fields[:3])
        """Debian's *wildcard jobs*: what is due every so often, at whatever time the clocks show."""

    def after(self, local: datetime) -> datetime | None:
        """Return the first match later than ``local``; None if there is none for 50 years."""
        search = copy(self._sim)
        search.dt = local
        try:
            return next(search)
        except (StopIteration, OverflowError):  # the end of what datetime can tell
            return None

    def from_(self, local: datetime) -> datetime | None:
        """Return the first match not earlier than ``local``."""
        return self.after(local - _SECOND)

    def _never(self) -> ScheduleError:
        return ScheduleError(
            DAY_OF_MONTH.name, f"no month of {self.text!r} has such a day: it would never run"
        )


@lru_cache(maxsize=4096)
def calendar_of(text: str) -> Calendar:
    """Return the calendar of an expression, parsed once."""
    return Calendar(text)
