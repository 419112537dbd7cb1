"""``@every 1h30m``: ticks a fixed time apart, whatever clocks show."""

import re

import attrs

from econeura_daemon.core.phrases import shortened
from econeura_daemon.core.settings import DAY, HOUR, MINUTE, SECOND
from econeura_daemon.cron.errors import ScheduleError

_SPAN = re.compile(r"(?=.)(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", re.ASCII)
_LONGEST = 366 * DAY


@attrs.frozen
class Interval:
    """Ticks at the multiples of ``every_ms`` since the epoch.

    So they depend on the schedule alone: a restart, an edit or a second daemon does not move them.
    """

    every_ms: int

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Read ``30s``, ``5m``, ``1h30m``, ``2d``; raises ScheduleError."""
        span = _SPAN.fullmatch(text.lower())
        if span is None:
            raise ScheduleError(
                "@every", f"expected a time such as 30s, 5m, 1h30m or 2d, got {shortened(text)!r}"
            )
        every_ms = sum(
            int(count or 0) * unit
            for count, unit in zip(span.groups(), (DAY, HOUR, MINUTE, SECOND), strict=True)
        )
        if not SECOND <= every_ms <= _LONGEST:
            raise ScheduleError("@every", f"{text} is not between 1s and 366d")
        return cls(every_ms)

    def next_after(self, instant_ms: int) -> int:
        """Return the first tick later than an instant; both in milliseconds since the epoch."""
        return (instant_ms // self.every_ms + 1) * self.every_ms
