"""A second opinion on schedules: Debian's cron, minute after minute, with clocks that are looked at and not computed.

It walks real time, reads off what the clocks of the zone show, and keeps the latest local time that they have shown
(cron.c's virtual time). What they leave out is a gap, what they show again a fold. It shares no code with the daemon,
reads a field by its own few lines, and knows nothing of offsets.
"""

import calendar
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
NAMES = {
    4: ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    5: ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
}


def numbers(text, field):
    """The numbers that one field allows."""
    low, high = BOUNDS[field]

    def number(word):
        names = NAMES.get(field, [])
        return names.index(word.upper()) + low if word.upper() in names else int(word)

    allowed = set()
    for term in text.split(","):
        base, _, step = term.partition("/")
        if base == "*":
            first, last = low, high
        elif "-" in base:
            first, last = map(number, base.split("-"))
        else:
            first = number(base)
            last = high if step else first
        allowed.update(range(first, last + 1, int(step or 1)))
    return allowed


class Reading:
    """An expression as crontab(5) explains it, with L, LW, 5L and 5#2."""

    def __init__(self, expression):
        parts = expression.split()
        self.parts = parts if len(parts) == 6 else ["0", *parts]
        self.real_time = any(part.startswith("*") for part in self.parts[:3])
        self.times = [numbers(part, field) for field, part in enumerate(self.parts[:3])]
        self.months = numbers(self.parts[4], 4)
        self.every_day_counts = self.parts[3].startswith("*") or self.parts[5].startswith("*")
        self._days = {}

    def matches(self, local):
        return (
            local.second in self.times[0]
            and local.minute in self.times[1]
            and local.hour in self.times[2]
            and self.day_matches(local)
        )

    def day_matches(self, local):
        key = local.toordinal()
        if key not in self._days:
            by_date, by_weekday = self.date_matches(local), self.weekday_matches(local)
            both = by_date and by_weekday if self.every_day_counts else by_date or by_weekday
            self._days[key] = both and local.month in self.months
        return self._days[key]

    def date_matches(self, local):
        last = calendar.monthrange(local.year, local.month)[1]
        last_work_day = max(
            day for day in range(1, last + 1) if calendar.weekday(local.year, local.month, day) < 5
        )
        special = {"L": last, "LW": last_work_day}
        return any(
            local.day == special[term] if term in special else local.day in numbers(term, 3)
            for term in self.parts[3].split(",")
        )

    def weekday_matches(self, local):
        weekday = local.isoweekday() % 7
        last = calendar.monthrange(local.year, local.month)[1]
        for term in self.parts[5].split(","):
            if "#" in term:
                day, nth = term.split("#")
                found = (local.day + 6) // 7 == int(nth) and weekday in {n % 7 for n in numbers(day, 5)}
            elif term.endswith("L"):
                found = local.day + 7 > last and weekday in {n % 7 for n in numbers(term[:-1], 5)}
            else:
                found = weekday in {n % 7 for n in numbers(term, 5)}
            if found:
                return True
        return False


class Walk:
    """What the clocks of a zone show from one instant to another (seconds since the epoch), every ``step`` seconds."""

    def __init__(self, zone, start, end, step=60):
        self.start, self.end, self.step = start, end, step
        tz = ZoneInfo(zone)
        self.shown = [
            (instant, datetime.fromtimestamp(instant, tz).replace(tzinfo=None, fold=0))
            for instant in range(start, end, step)
        ]

    def ticks(self, expression, dst_gap="run", dst_fold="once"):
        """The instants at which the expression is due, those that the walk saw."""
        reading = Reading(expression)
        step = timedelta(seconds=self.step)
        latest = self.shown[0][1] - step
        due = []
        for instant, local in self.shown:
            missed = latest + step
            again = local <= latest
            if reading.real_time:
                tick = reading.matches(local)
            elif again:
                tick = dst_fold == "twice" and reading.matches(local)
            else:
                tick = reading.matches(local)
                while missed < local and not tick:
                    tick = dst_gap == "run" and reading.matches(missed)
                    missed += step
            latest = max(latest, local)
            if tick:
                due.append(instant)
        return due


def next_in(due, instant_ms):
    """The first of the instants (seconds) that is later than ``instant_ms``, in milliseconds; None: none is."""
    at = bisect_right(due, instant_ms // 1000)
    return due[at] * 1000 if at < len(due) else None


def shifts(zone, first_year, last_year):
    """The hours (seconds since the epoch) before which the zone's offset changed."""
    tz = ZoneInfo(zone)
    start, end = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (first_year, last_year + 1))
    offsets = [(at, datetime.fromtimestamp(at, tz).utcoffset()) for at in range(start, end, 3600)]
    return [at for (_, before), (at, after) in pairwise(offsets) if before != after]
