"""The fields of an expression are checked here, so that a mistake is told by its field and in words.

The grammar is cronsim's (Debian's crontab(5), and ``L``, ``LW``, ``#`` of Quartz); cronsim itself says only which
field is bad.
"""

import re
from collections.abc import Sequence

import attrs

from econeura_daemon.core.phrases import closest, shortened
from econeura_daemon.cron.errors import ScheduleError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_NUMBER = re.compile(r"[0-9]{1,9}")
_LAST_WEEKDAY_OF_MONTH = "L"
_NTH = range(1, 6)


@attrs.frozen
class Field:
    """One field: its name, the numbers it takes, and the names for them (the first for ``low``)."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def check(self, text: str) -> str:
        """Return the field as cronsim reads it; raises ScheduleError."""
        return ",".join(self._term(term, text) for term in text.split(","))

    def _term(self, term: str, text: str) -> str:
        if not term:
            self._fail(f"{shortened(text)!r} has a comma with nothing beside it")
        base, slash, step = term.partition("/")
        if not slash:
            return self._base(base)
        if not _NUMBER.fullmatch(step) or int(step) < 1:
            self._fail(f"the step of {shortened(term)!r} must be a number from 1")
        checked = self._base(base)
        if not checked.replace("-", "").isdecimal() and checked != "*":
            self._fail(f"{shortened(base)!r} is one day, so it takes no step")
        first, _, last = checked.partition("-")
        # Debian's 5-5/2 is 5; cronsim takes it for 5/2, which goes on to the end.
        return first if first == last else f"{checked}/{step}"

    def _base(self, base: str) -> str:
        if base == "*":
            return base
        if self is DAY_OF_MONTH and base in {"L", "LW"}:
            return base
        if self is DAY_OF_WEEK and "#" in base:
            return self._nth(base)
        if self is DAY_OF_WEEK and base.endswith(_LAST_WEEKDAY_OF_MONTH) and len(base) > 1:
            return f"{self._number(base[:-1])}L"
        if "-" in base:
            return self._range(base)
        return str(self._number(base))

    def _nth(self, base: str) -> str:
        day, _, nth = base.partition("#")
        if not _NUMBER.fullmatch(nth) or int(nth) not in _NTH:
            self._fail(f"{shortened(base)!r} asks for a weekday of the month: after # goes 1 to 5")
        return f"{self._number(day)}#{int(nth)}"

    def _range(self, base: str) -> str:
        first, _, last = base.partition("-")
        low, high = self._number(first), self._number(last)
        if high < low:
            self._fail(f"{shortened(base)} goes backwards; write {self._forwards(low, high)}")
        return f"{low}-{high}"

    def _forwards(self, low: int, high: int) -> str:
        first = self.low + (self is DAY_OF_WEEK)  # where 7 is Sunday already
        ranges = [(low, self.high), (first, high)] if high >= first else [(low, self.high)]
        return ",".join(f"{start}-{end}" if start < end else f"{start}" for start, end in ranges)

    def _number(self, text: str) -> int:
        if _NUMBER.fullmatch(text):
            number = int(text)
            if number > self.high:
                self._fail(f"{number} is more than {self.high}")
            if number < self.low:
                self._fail(f"{number} is less than {self.low}")
            return number
        if text in self.names:
            return self.names.index(text) + self.low
        return self._fail(self._not_understood(text))

    def _not_understood(self, text: str) -> str:
        shown = repr(shortened(text)) if text else "an empty value"
        allowed = f"use {self.low} to {self.high}"
        if self.names:
            allowed += f", or {self.names[0]} to {self.names[-1]}"
        if text == "?":
            return "'?' is not used here; write *"
        if self is DAY_OF_MONTH and text.endswith("W"):
            return (
                f"{shown} is not known; of the weekdays nearest to a date there is only LW, the month's last"
            )
        guess = closest(text[:3], self.names) if text.isalpha() else None
        return f"{shown} is not known; {allowed}" + (f"; did you mean {guess}?" if guess else "")

    def _fail(self, detail: str) -> int:
        raise ScheduleError(self.name, detail)


SECOND = Field("second", 0, 59)
MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY_OF_MONTH = Field("day of month", 1, 31)
MONTH = Field("month", 1, 12, _MONTHS)
DAY_OF_WEEK = Field("day of week", 0, 7, _WEEKDAYS)

FIELDS = (SECOND, MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK)


def check_fields(parts: Sequence[str]) -> list[str]:
    """Return the six fields, seconds first, as cronsim reads them; raises ScheduleError for the first bad one."""
    if len(parts) not in {5, 6}:
        more = "; there is none for years" if len(parts) == 7 else ""
        raise ScheduleError(
            "expression",
            "expected 5 fields (minute, hour, day of month, month, day of week), or 6 with seconds first, "
            f"got {len(parts)}{more}",
        )
    six = parts if len(parts) == len(FIELDS) else ["0", *parts]
    return [field.check(part.upper()) for field, part in zip(FIELDS, six, strict=True)]
