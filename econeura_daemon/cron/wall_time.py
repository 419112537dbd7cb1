"""Local times of a zone and the instants at which its clocks show them.

A *gap* is what clocks that go forward leave out, a *fold* what clocks that go back show twice (PEP 495). Local times
are naive datetimes of whole seconds, instants are seconds since the epoch.
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import attrs

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local times carry no zone here
_SECOND = timedelta(seconds=1)

LONGEST_FOLD = 26 * 3600
"""Seconds; the longest known is a day (Manila in 1844, Kwajalein in 1969 stood still for one)."""


@attrs.frozen
class Shift:
    """The instant ``at`` from which the offset from UTC is ``after`` in place of ``before`` (seconds)."""

    at: int
    before: int
    after: int

    @property
    def starts(self) -> datetime:
        """The local time that the clocks show from the shift on."""
        return local_at(self.at + self.after)

    @property
    def ends(self) -> datetime:
        """The local time that the clocks would have shown without the shift."""
        return local_at(self.at + self.before)


def local_at(seconds: int) -> datetime:
    """Return the local time that is ``seconds`` after 1970 began there."""
    return _EPOCH + timedelta(seconds=seconds)


def seconds_of(local: datetime) -> int:
    """Return the seconds from the beginning of 1970 to ``local``, both local."""
    return (local - _EPOCH) // _SECOND


@attrs.frozen
class Shown:
    """What the clocks of a zone show at an instant."""

    local: datetime
    offset: int
    """From UTC, in seconds."""
    again: bool
    """They show it for the second time."""


def shown_at(zone: ZoneInfo, instant: int) -> Shown:
    """Return what the clocks show."""
    aware = datetime.fromtimestamp(instant, zone)
    offset = aware.utcoffset()
    assert offset is not None
    return Shown(aware.replace(tzinfo=None, fold=0), offset // _SECOND, bool(aware.fold))


def offset_at(zone: ZoneInfo, instant: int) -> int:
    """Return the zone's offset from UTC (seconds) at an instant."""
    offset = datetime.fromtimestamp(instant, zone).utcoffset()
    assert offset is not None
    return offset // _SECOND


def offsets_of(zone: ZoneInfo, local: datetime) -> tuple[int, int]:
    """Return the offsets with which ``local`` is to be read: alike, or of the two sides of a gap or a fold."""
    first = local.replace(tzinfo=zone)
    before, after = first.utcoffset(), first.replace(fold=1).utcoffset()
    assert before is not None
    assert after is not None
    offset = before // _SECOND
    return offset, offset if before == after else after // _SECOND


def shift_between(zone: ZoneInfo, low: int, high: int) -> Shift:
    """Return the one shift after the instant ``low`` and not after ``high``; the offsets of the two must differ."""
    before, after = offset_at(zone, low), offset_at(zone, high)
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(zone, middle) == before:
            low = middle
        else:
            high = middle
    return Shift(high, before, after)
