"""Days and weeks of a time zone, as spans between instants: a day may have 23 or 25 hours."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import attrs

from econeura_daemon.core.clock import format_instant, from_ms


@attrs.frozen(kw_only=True)
class Period:
    """Whole local days, from the first to the last."""

    first: date
    last: date
    zone: ZoneInfo

    @classmethod
    def before(cls, instant_ms: int, zone: ZoneInfo, *, days: int) -> "Period":
        """Return the ``days`` before the local day of an instant (milliseconds since the epoch)."""
        today = from_ms(instant_ms).astimezone(zone).date()
        return cls(first=today - timedelta(days=days), last=today - timedelta(days=1), zone=zone)

    @property
    def start(self) -> datetime:
        """The instant at which the first day begins, in UTC."""
        return self._midnight(self.first)

    @property
    def end(self) -> datetime:
        """The instant at which the day after the last one begins, in UTC."""
        return self._midnight(self.last + timedelta(days=1))

    def to_json(self) -> dict[str, str]:
        """Return it as reports and manifests show it."""
        return {
            "from": format_instant(self.start),
            "to": format_instant(self.end),
            "timeZone": self.zone.key,
        }

    def _midnight(self, day: date) -> datetime:
        # Where clocks leave midnight out the day begins where they go on; where they show it twice, the first time.
        return datetime.combine(day, time.min, tzinfo=self.zone).astimezone(UTC)
