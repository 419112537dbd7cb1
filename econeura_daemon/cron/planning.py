"""What is to become of the ticks of one job that are due: which run, which are missed, which one is next.

A job that was looked after has one due tick, and it runs. Several, or one that fell due while nobody looked, are the
misfire policy's: after a restart, a suspended machine, a wall clock that was set forward.
"""

from typing import Protocol

import attrs

from econeura_daemon.core.jobs import Misfire

MOST_TICKS = 1000
"""That are looked at one after the other; of more, the oldest ones are passed over uncounted."""
MOST_RUNS = 100
"""That one look makes for a job whose policy is ``all``; the others follow with the next look."""
MOST_MISSED = 100
"""Missed ticks, the newest, that get a run on record; older ones are only counted."""
GRACE_MS = 1000
"""So late a tick is not missed by ``skip``, whoever was away."""
STEP_MS = 1500
"""By so much the wall clock must differ from what the monotonic one says to have been set, or the machine suspended."""


class Ticks(Protocol):
    """A schedule, as far as it is needed here."""

    def next_after(self, instant_ms: int) -> int | None:
        """Return the first tick later than an instant, in milliseconds since the epoch; None: there is none."""
        ...


@attrs.frozen(kw_only=True)
class Plan:
    """What is to become of a job's due ticks, each oldest first."""

    runs: tuple[int, ...] = ()
    missed: tuple[int, ...] = ()
    """Those that get a run on record."""
    missed_uncounted: int = 0
    """Further ones, older, that only count."""
    last: int
    """The newest tick that this plan is about."""
    next: int | None


@attrs.frozen
class Watch:
    """Since when somebody has looked after the ticks without a break."""

    now: int
    """The last look, by the wall clock in milliseconds since the epoch."""
    monotonic_ms: float
    """The same look, by a clock that nobody sets."""
    since: int
    """Ticks before it fell due while nobody was there."""

    def look(self, now: int, monotonic_ms: float) -> "Watch":
        """Return the watch after a further look: broken by a clock that was set, or a machine that slept."""
        drift = now - self.now - (monotonic_ms - self.monotonic_ms)
        if drift > STEP_MS:
            return Watch(now, monotonic_ms, now)
        if drift < -STEP_MS:
            return Watch(now, monotonic_ms, min(self.since, now))
        return Watch(now, monotonic_ms, self.since)

    def is_set_back(self, now: int, monotonic_ms: float) -> bool:
        """Tell whether the wall clock went back since the last look."""
        return now - self.now - (monotonic_ms - self.monotonic_ms) < -STEP_MS


def plan(
    schedule: Ticks, first: int, now: int, *, watched_since: int, misfire: Misfire, window_ms: int
) -> Plan:
    """Return what is to become of the ticks from ``first`` up to ``now``, both included.

    ``latest``: the newest one runs if it is at most ``window_ms`` late. ``skip``: the newest one runs unless it fell
    due before ``watched_since``. ``all``: every one that is at most ``window_ms`` late runs. The others are missed.
    """
    ticks, following = _due(schedule, first, now)
    if misfire is Misfire.ALL:
        return _all(schedule, ticks, following, now - window_ms)
    if following is not None and following <= now:  # there are more than were looked at
        ticks.append(_newest(schedule, following, now))
        following = schedule.next_after(ticks[-1])
    newest = ticks[-1]
    if misfire is Misfire.LATEST:
        runs = now - newest <= window_ms
    else:
        runs = newest >= watched_since or now - newest <= GRACE_MS
    return _planned([newest] if runs else [], ticks[:-1] if runs else ticks, newest, following)


def _all(schedule: Ticks, ticks: list[int], following: int | None, oldest: int) -> Plan:
    missed = [tick for tick in ticks if tick < oldest]
    runs = ticks[len(missed) :][:MOST_RUNS]
    last = runs[-1] if runs else ticks[-1]
    if not runs and following is not None and following < oldest:
        following = schedule.next_after(oldest - 1)  # those between are passed over uncounted
    elif last != ticks[-1]:
        following = ticks[ticks.index(last) + 1]
    return _planned(runs, missed, last, following)


def _planned(runs: list[int], missed: list[int], last: int, following: int | None) -> Plan:
    recorded = missed[-MOST_MISSED:]
    return Plan(
        runs=tuple(runs),
        missed=tuple(recorded),
        missed_uncounted=len(missed) - len(recorded),
        last=last,
        next=following,
    )


def _due(schedule: Ticks, first: int, now: int) -> tuple[list[int], int | None]:
    """Return the first ticks that are due, and the one after them."""
    ticks: list[int] = []
    tick: int | None = first
    while tick is not None and (tick <= now or not ticks) and len(ticks) < MOST_TICKS:
        ticks.append(tick)
        tick = schedule.next_after(tick)
    return ticks, tick


def _newest(schedule: Ticks, due: int, now: int) -> int:
    """Return the newest tick up to ``now``; ``due`` is one of them.

    By halving: the first tick after an instant is due if the instant is early enough.
    """
    newest, early, late = due, due, now
    while late - early > 1:
        middle = (early + late) // 2
        tick = schedule.next_after(middle)
        if tick is None or tick > now:
            late = middle
        else:
            newest, early = tick, tick
    return newest
