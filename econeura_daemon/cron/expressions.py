"""Schedules: what is due when, in which zone, and what becomes of hours that do not exist or come twice."""

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

import attrs

from econeura_daemon.core.phrases import did_you_mean, one_of
from econeura_daemon.cron.calendar import Calendar, calendar_of
from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.intervals import Interval
from econeura_daemon.cron.wall_time import (
    LONGEST_FOLD,
    offset_at,
    offsets_of,
    seconds_of,
    shift_between,
    shown_at,
)
from econeura_daemon.cron.zones import edition, zone_named

DstGap = Literal["run", "skip"]
DstFold = Literal["once", "twice"]

LONGEST = 512
"""Characters of an expression."""
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Debian's crontab(5), less ``@reboot``."""
_SEARCHED_YEARS = 50
_LAST_INSTANT = 253_402_200_000
"""Seconds; a day before the end of what datetime can tell."""


@attrs.frozen
class Schedule:
    """When something is due.

    Jobs at fixed times (no field for seconds, minutes or hours begins with ``*``) follow the clocks: a time that
    falls into a gap runs at the gap's end (``dst_gap`` ``run``) or not at all (``skip``), one that comes twice runs
    the first time (``dst_fold`` ``once``) or both (``twice``). All others, and ``@every``, run in real time. That is
    Debian's cron.
    """

    text: str
    zone: ZoneInfo
    dst_gap: DstGap
    dst_fold: DstFold
    _ticks: Calendar | Interval
    _last: list[tuple[int, int]] = attrs.field(factory=lambda: [(0, 0)], init=False, eq=False, repr=False)
    """The last question and its answer, which holds for every instant between them: of many jobs with one schedule
    the first one pays."""

    @staticmethod
    def parse(
        text: str, zone: str = "UTC", *, dst_gap: DstGap = "run", dst_fold: DstFold = "once"
    ) -> "Schedule":
        """Read an expression and the IANA name of its time zone; raises ScheduleError.

        Five fields, six with seconds first, ``@hourly`` and its like, ``@every 30s``.
        """
        if len(text) > LONGEST:
            raise ScheduleError("expression", f"it has {len(text)} characters, at most {LONGEST} are read")
        return _parsed(" ".join(text.split()), zone, dst_gap, dst_fold, edition())

    @property
    def calendar(self) -> Calendar | None:
        """The local times of the expression; None for ``@every``, which knows no clocks."""
        return self._ticks if isinstance(self._ticks, Calendar) else None

    def next_after(self, instant_ms: int) -> int | None:
        """Return the first tick later than an instant, both in milliseconds since the epoch (UTC).

        None if there is none within 50 years, or before the year 10000.
        """
        if isinstance(self._ticks, Interval):
            return self._ticks.next_after(instant_ms)
        instant = instant_ms // 1000
        if instant >= _LAST_INSTANT:
            return None
        asked, answer = self._last[0]
        if asked <= instant < answer:
            return answer * 1000
        try:
            found = self._after(self._ticks, instant)
        except OverflowError:
            return None
        if found is None:
            return None
        self._last[0] = (instant, found)  # one store: threads see the old pair or the new one
        return found * 1000

    def ticks_after(self, instant_ms: int) -> Iterator[int]:
        """Yield the ticks later than an instant, in order and without end unless there is one."""
        tick = self.next_after(instant_ms)
        while tick is not None:
            yield tick
            tick = self.next_after(tick)

    def _after(self, calendar: Calendar, instant: int) -> int | None:
        """Return the first tick later than ``instant``, both in seconds since the epoch."""
        shown = shown_at(self.zone, instant)
        both = calendar.real_time or self.dst_fold == "twice"
        if shown.again and not both:
            # The clocks were put back and show these times again: whatever is left of them has had its turn.
            shift = shift_between(self.zone, instant - LONGEST_FOLD, instant)
            found = self._first(calendar, calendar.from_(shift.ends), instant)
        else:
            found = self._first(calendar, calendar.after(shown.local), instant)
        if not both:
            return found
        # Before ``found`` the clocks may be put back, and times that have had a turn come again.
        until = instant + LONGEST_FOLD if found is None else min(found, instant + LONGEST_FOLD)
        if offset_at(self.zone, until) >= shown.offset:
            return found
        shift = shift_between(self.zone, instant, until)
        return self._first(calendar, calendar.from_(shift.starts), max(instant, shift.at - 1))

    def _first(self, calendar: Calendar, local: datetime | None, instant: int) -> int | None:
        """Return the first instant later than ``instant`` at which the clocks show ``local`` or a later match."""
        last_year = None if local is None else local.year + _SEARCHED_YEARS
        while local is not None and last_year is not None and local.year <= last_year:
            before, after = offsets_of(self.zone, local)
            wall = seconds_of(local)
            if before >= after:
                if wall - before > instant:
                    return wall - before
                if wall - after > instant:
                    return wall - after
                local = calendar.after(local)
            else:
                shift = shift_between(self.zone, wall - after, wall - before)
                if self.dst_gap == "run" and not calendar.real_time and shift.at > instant:
                    return shift.at
                local = calendar.from_(shift.starts)
        return None


@lru_cache(maxsize=8192)
def _parsed(text: str, zone: str, dst_gap: DstGap, dst_fold: DstFold, _edition: int) -> Schedule:
    return Schedule(text, zone_named(zone), dst_gap, dst_fold, _ticks_of(text))


def _ticks_of(text: str) -> Calendar | Interval:
    if not text:
        raise ScheduleError("expression", "expected five fields such as '0 3 * * *', or @daily, or @every 5m")
    if "TZ=" in text:
        raise ScheduleError(
            "expression", f"{text.split(maxsplit=1)[0][:60]!r}: the time zone is a setting of its own"
        )
    if not text.startswith("@"):
        return calendar_of(text)
    alias, _, rest = text.partition(" ")
    known = alias.lower()
    if known == "@every":
        return Interval.parse(rest)
    if known in ALIASES and not rest:
        return calendar_of(ALIASES[known])
    if known == "@reboot":
        raise ScheduleError(
            "expression", "@reboot is no time; let the unit that starts with the machine do it"
        )
    names = [*ALIASES, "@every"]
    raise ScheduleError(
        "expression", f"{text[:60]!r} is not one of {one_of(names)}{did_you_mean(alias, names)}"
    )
