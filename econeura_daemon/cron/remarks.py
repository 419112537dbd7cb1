"""What clocks do to ticks, in words: for people who look at the next runs of a schedule."""

import attrs

from econeura_daemon.cron.calendar import Calendar
from econeura_daemon.cron.expressions import Schedule
from econeura_daemon.cron.wall_time import Shift, offset_at, offsets_of, shift_between, shown_at

_DAY = 86_400
_YEAR = 366 * _DAY


@attrs.frozen
class Upcoming:
    """A tick (milliseconds since the epoch), and what is to be said about it; mostly nothing."""

    tick: int
    remark: str = ""


def upcoming(schedule: Schedule, instant_ms: int, count: int) -> list[Upcoming]:
    """Return up to ``count`` ticks later than an instant, with remarks on clocks that go forward or back."""
    found: list[Upcoming] = []
    before = instant_ms
    for tick in schedule.ticks_after(instant_ms):
        if len(found) == count:
            break
        found.append(Upcoming(tick, remark(schedule, before, tick)))
        before = tick
    return found


def remark(schedule: Schedule, before_ms: int, tick: int) -> str:
    """Return what is to be said about a tick, given the instant after which it is the first."""
    calendar = schedule.calendar
    if calendar is None:
        return ""
    instant = tick // 1000
    shown = shown_at(schedule.zone, instant)
    first, second = offsets_of(schedule.zone, shown.local)
    if first > second:
        return _of_a_fold(schedule, calendar, again=shown.again)
    gap = _gap_between(schedule, before_ms // 1000, instant)
    return "" if gap is None else _of_a_gap(schedule, calendar, gap, instant)


def _gap_between(schedule: Schedule, low: int, high: int) -> Shift | None:
    """Return the last shift forward after the instant ``low`` and not after ``high``, within a year.

    Days are steps enough: no zone has ever had two shifts within three.
    """
    low = max(low, high - _YEAR)
    while high > low:
        earlier = max(low, high - _DAY)
        if offset_at(schedule.zone, earlier) < offset_at(schedule.zone, high):
            return shift_between(schedule.zone, earlier, high)
        high = earlier
    return None


def _of_a_fold(schedule: Schedule, calendar: Calendar, *, again: bool) -> str:
    if not calendar.real_time and schedule.dst_fold == "once":
        return "clocks go back: this time comes twice, runs once"
    return f"clocks go back: this time comes twice, runs twice ({'second' if again else 'first'})"


def _of_a_gap(schedule: Schedule, calendar: Calendar, shift: Shift, instant: int) -> str:
    left_out = calendar.from_(shift.ends)  # the first time that the clocks leave out
    if left_out is None or left_out >= shift.starts:
        return ""
    day = f"{left_out:%d %b %H:%M}"
    if calendar.real_time or schedule.dst_gap == "skip":
        return f"clocks went forward: {day} did not exist and was left out"
    return (
        f"clocks go forward: {day} does not exist, runs at {shift.starts:%H:%M}"
        if shift.at == instant
        else ""
    )
