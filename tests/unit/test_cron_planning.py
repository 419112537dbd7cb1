"""What becomes of due ticks, held against a plain walk over all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.core.jobs import Misfire, Overlap
from econeura_daemon.cron.expressions import Schedule
from econeura_daemon.cron.planning import GRACE_MS, MOST_MISSED, MOST_RUNS, MOST_TICKS, Watch, plan
from econeura_daemon.cron.policies import MAX_QUEUED, Admission, admit, backoff_ms, offset_ms

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
NOW = 1_795_485_600_000  # 2026-11-24T02:00:00Z

schedules = st.sampled_from(
    ["* * * * * *", "* * * * *", "*/7 * * * *", "@hourly", "30 3 * * 1-5", "@every 90s"]
)


def due(schedule, first, now):
    ticks, tick = [], first
    while tick is not None and tick <= now:
        ticks.append(tick)
        tick = schedule.next_after(tick)
    return ticks, tick


@given(
    schedules,
    st.integers(0, 2000 * SECOND),
    st.integers(0, 2 * HOUR),
    st.integers(-HOUR, HOUR),
    st.sampled_from(Misfire),
)
def test_every_due_tick_runs_or_is_missed_as_the_policy_says(text, ago, window, watched, misfire):
    schedule = Schedule.parse(text)
    first = schedule.next_after(NOW - ago)
    if first is None or first > NOW:
        return
    ticks, following = due(schedule, first, NOW)
    found = plan(schedule, first, NOW, watched_since=NOW + watched, misfire=misfire, window_ms=window)
    handled = [*found.missed, *found.runs]
    if len(ticks) <= min(MOST_TICKS, MOST_RUNS):
        assert sorted(handled) == ticks[found.missed_uncounted :]
        assert found.next == following
    assert list(found.runs) == sorted(found.runs)
    assert set(found.runs).isdisjoint(found.missed)
    assert set(handled) <= set(ticks)
    assert found.last in ticks
    match misfire:
        case Misfire.ALL:
            assert all(NOW - tick <= window for tick in found.runs)
            assert all(NOW - tick > window for tick in found.missed)
        case Misfire.LATEST:
            assert found.runs == ((ticks[-1],) if NOW - ticks[-1] <= window else ())
        case Misfire.SKIP:
            seen = ticks[-1] >= NOW + watched or NOW - ticks[-1] <= GRACE_MS
            assert found.runs == ((ticks[-1],) if seen else ())


@given(st.integers(3, 400), st.sampled_from([Misfire.LATEST, Misfire.SKIP]))
def test_a_long_absence_is_bounded_and_ends_with_the_newest_tick(days, misfire):
    schedule = Schedule.parse("* * * * * *")
    first = NOW - days * DAY
    found = plan(schedule, first, NOW + 700, watched_since=NOW, misfire=misfire, window_ms=HOUR)
    assert (found.runs, found.next) == ((NOW,), NOW + SECOND)
    assert len(found.missed) == MOST_MISSED
    assert found.missed_uncounted + len(found.missed) == MOST_TICKS


def test_all_goes_through_a_window_in_portions_and_leaves_none_out():
    schedule = Schedule.parse("* * * * * *")
    first: int | None = NOW - DAY
    runs: list[int] = []
    looks = 0
    while first is not None and first <= NOW:
        found = plan(schedule, first, NOW, watched_since=NOW, misfire=Misfire.ALL, window_ms=HOUR)
        assert len(found.runs) <= MOST_RUNS
        runs += found.runs
        first, looks = found.next, looks + 1
    assert runs == list(range(NOW - HOUR, NOW + 1, SECOND))
    assert looks < 45


@pytest.mark.parametrize(
    ("wall", "monotonic", "since", "back"),
    [
        (60_000, 60_000, 0, False),
        (60_900, 60_000, 0, False),  # two clocks are never read at once
        (3_660_000, 60_000, 3_660_000, False),  # set forward, or the machine was suspended
        (-3_540_000, 60_000, -3_540_000, True),
    ],
)
def test_a_watch_is_broken_by_a_clock_that_does_not_go_with_the_other(wall, monotonic, since, back):
    watch = Watch(NOW, 0.0, NOW)
    assert watch.is_set_back(NOW + wall, monotonic) is back
    assert watch.look(NOW + wall, monotonic) == Watch(NOW + wall, monotonic, NOW + since)


@pytest.mark.parametrize(
    ("overlap", "open_runs", "catches_up", "expected"),
    [
        *[(overlap, 0, False, Admission.START) for overlap in Overlap],
        (Overlap.SKIP, 1, False, Admission.SKIP),
        (Overlap.SKIP, 1, True, Admission.WAIT),
        (Overlap.QUEUE, 1, False, Admission.WAIT),
        (Overlap.QUEUE, MAX_QUEUED + 1, False, Admission.SKIP),
        (Overlap.ALLOW, 50, False, Admission.START),
    ],
)
def test_a_tick_is_admitted_as_the_job_overlaps(overlap, open_runs, catches_up, expected):
    assert admit(overlap, open_runs, catches_up=catches_up) is expected


@given(st.integers(1, 1000), st.randoms())
def test_the_wait_after_a_failure_grows_to_five_minutes(attempt, rng):
    wait = min(SECOND * 2 ** (attempt - 1), 5 * MINUTE)
    assert 0.8 * wait - 1 <= backoff_ms(attempt, rng) <= 1.2 * wait


@given(st.text(min_size=1), st.integers(0, DAY))
def test_a_jobs_offset_is_its_own_and_within_its_jitter(job_id, jitter):
    assert 0 <= offset_ms(job_id, jitter) <= jitter
    assert offset_ms(job_id, jitter) == offset_ms(job_id, jitter)
