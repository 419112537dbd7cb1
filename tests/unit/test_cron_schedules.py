"""When schedules are due: published cases, an oracle that walks minute by minute, and another evaluator."""

import json
import random
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.expressions import ALIASES, Schedule
from tests.support.cron_oracle import Walk, next_in, shifts

CASES = json.loads((Path(__file__).parents[1] / "cases" / "cron.json").read_text())
HOUR, DAY = 3600, 86400

ZONES = {  # and the years whose shifts are looked at
    "Australia/Lord_Howe": (2025, 2026),  # half an hour
    "Europe/Madrid": (2025, 2026),
    "America/New_York": (2006, 2007),  # the rule changed between them
    "America/Sao_Paulo": (2017, 2018),  # midnight does not exist
    "Pacific/Apia": (2010, 2012),  # 30 December 2011 was left out
    "Europe/Dublin": (1971, 1972),  # summer is its standard time
    "Africa/Casablanca": (2025, 2026),  # four a year, around Ramadan
    "Antarctica/Troll": (2025, 2026),  # two hours
}
EXPRESSIONS = [
    "* * * * *",
    "*/5 * * * *",
    "*/7 2 * * *",
    "0 * * * *",
    "30 */2 * * *",
    "0 */3 * * *",
    "15 0 * * *",
    "0 0 * * *",
    "30 1 * * *",
    "45 1 * * *",
    "0 2 * * *",
    "0,30 2 * * *",
    "10,20 0-4 * * *",
    "59 23 * * *",
    "0-59/9 0-23 * * *",
    "30 2 * * 0",
    "30 2 25-31 * SUN",
    "30 2 1 * MON",
    "30 1 L * *",
    "0 1 LW * *",
    "5 3 * * 6L",
    "15 2 * * SUN#1",
]
CHOICES = [(gap, fold) for gap in ("run", "skip") for fold in ("once", "twice")]


def ms_of(local, zone):
    return int(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1000


def shown(instant_ms, zone):
    return datetime.fromtimestamp(instant_ms // 1000, ZoneInfo(zone)).isoformat()


def following(schedule, instant_ms, count):
    ticks = schedule.ticks_after(instant_ms)
    return [next(ticks) for _ in range(count)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['n']}-{case['why']}")
def test_the_published_cases_come_out(case):
    schedule = Schedule.parse(case["expr"], case["tz"])
    ticks = following(schedule, ms_of(case["start_local"], case["tz"]), len(case["expect"]))
    assert [shown(tick, case["tz"]) for tick in ticks] == case["expect"]


def test_names_and_aliases_are_read_in_any_case():
    for one, other in [
        ("0 3 * jan-mar mon", "0 3 * 1-3 1"),
        ("0 3 * * fril", "0 3 * * 5L"),
        (" 0\t3  * * Sun#2 ", "0 3 * * 0#2"),
        ("0 3 lw * *", "0 3 LW * *"),
        ("@Daily", "0 0 * * *"),
        *ALIASES.items(),
    ]:
        assert following(Schedule.parse(one), 0, 50) == following(Schedule.parse(other), 0, 50)


WINDOW = 40 * HOUR


@cache
def windows(zone):
    """Forty hours to each side of every shift, as the zone's clocks show them."""
    walks = []
    for shift in shifts(zone, *ZONES[zone]):
        start = shift - WINDOW
        walks.append(Walk(zone, start - start % 60, shift + WINDOW))
    return walks


@cache
def due(zone, window, expression, gap, fold):
    return windows(zone)[window].ticks(expression, gap, fold)


@pytest.mark.rounds(short=30_000, soak=1_000_000)
def test_from_any_instant_near_a_shift_of_the_clocks_the_next_tick_is_the_oracles(rounds):
    rng = random.Random(20261124)
    for _ in range(rounds):
        zone = rng.choice(list(ZONES))
        window = rng.randrange(len(windows(zone)))
        walk = windows(zone)[window]
        expression, (gap, fold) = rng.choice(EXPRESSIONS), rng.choice(CHOICES)
        schedule = Schedule.parse(expression, zone, dst_gap=gap, dst_fold=fold)
        instant = rng.randrange((walk.shown[0][0] + 1) * 1000, walk.shown[-1][0] * 1000)
        expected = next_in(due(zone, window, expression, gap, fold), instant)
        tick = schedule.next_after(instant)
        context = f"{expression} {zone} {gap} {fold} after {shown(instant, zone)}"
        assert tick > instant, context
        if expected is None:
            assert tick > walk.shown[-1][0] * 1000, context
        else:
            assert shown(tick, zone) == shown(expected, zone), context


@pytest.mark.parametrize("zone", ZONES)
def test_tick_after_tick_over_a_shift_is_the_oracles_list(zone):
    for window, walk in enumerate(windows(zone)):
        for expression in EXPRESSIONS:
            for gap, fold in CHOICES:
                schedule = Schedule.parse(expression, zone, dst_gap=gap, dst_fold=fold)
                ticks = []
                tick = schedule.next_after(walk.shown[0][0] * 1000 - 1)
                while tick <= walk.shown[-1][0] * 1000:
                    ticks.append(tick // 1000)
                    tick = schedule.next_after(tick)
                assert ticks == due(zone, window, expression, gap, fold), (expression, gap, fold, window)


@st.composite
def fields(draw, low, high):
    kind = draw(st.sampled_from(["*", "*/", "n", "n", "n,n", "n-n", "n-n/", "n/"]))
    one, other = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    step = draw(st.integers(1, 12))
    return {
        "*": "*",
        "*/": f"*/{step}",
        "n": f"{one}",
        "n,n": f"{one},{other}",
        "n-n": f"{one}-{other}",
        "n-n/": f"{one}-{other}/{step}",
        "n/": f"{one}/{step}",
    }[kind]


clock_times = st.tuples(fields(0, 59), fields(0, 4)).map(" ".join)
days = st.one_of(
    st.just("* * *"),
    st.tuples(fields(1, 31), st.just("*"), fields(0, 7)).map(" ".join),
    st.sampled_from(["L * *", "LW * *", "* * 0L", "* * 0#1", "25-31 * 0", "*/2 * 1-5", "1,L * 3"]),
)
expressions = st.tuples(clock_times, days).map(" ".join)


@given(expressions, st.sampled_from(list(ZONES)), st.sampled_from(CHOICES), st.data())
def test_any_expression_over_a_shift_of_the_clocks_is_due_when_the_oracle_says(
    expression, zone, choice, data
):
    walk = data.draw(st.sampled_from(windows(zone)))
    schedule = Schedule.parse(expression, zone, dst_gap=choice[0], dst_fold=choice[1])
    expected = walk.ticks(expression, *choice)
    ticks = []
    for tick in schedule.ticks_after(walk.shown[0][0] * 1000 - 1):
        if tick > walk.shown[-1][0] * 1000:
            break
        ticks.append(tick // 1000)
    assert ticks == expected


@given(
    fields(0, 59),
    clock_times,
    st.sampled_from(["Europe/Madrid", "Australia/Lord_Howe"]),
    st.sampled_from(CHOICES),
)
def test_expressions_with_seconds_are_due_when_the_oracle_says(second, times, zone, choice):
    expression = f"{second} {times} * * *"
    walk = seconds_walk(zone, times.split()[0] != "*")
    schedule = Schedule.parse(expression, zone, dst_gap=choice[0], dst_fold=choice[1])
    expected = walk.ticks(expression, *choice)
    for start in (walk.shown[0][0] * 1000 - 1, *(tick * 1000 for tick in expected[:200])):
        tick = schedule.next_after(start)
        wanted = next_in(expected, start)
        assert tick == wanted if wanted is not None else tick > walk.shown[-1][0] * 1000


@cache
def seconds_walk(zone, forward):
    """Three hours around a shift, second by second."""
    shift = shifts(zone, 2026, 2026)[0 if forward == (zone == "Europe/Madrid") else 1]
    return Walk(zone, shift - 2 * HOUR, shift + 2 * HOUR, step=1)


@pytest.mark.rounds(short=60, soak=3000)
def test_over_years_the_days_are_the_oracles(rounds):
    rng = random.Random(5)
    start = int(datetime(2023, 12, 31, tzinfo=UTC).timestamp())
    walk = Walk("UTC", start, start + 3 * 366 * DAY, step=DAY)
    day_fields = ["*", "1", "13", "29", "31", "L", "LW", "*/2", "*/100,1-7", "10-20", "30,L", "7/10"]
    month_fields = ["*", "2", "*/3", "JAN,JUN", "4-10", "2,12"]
    weekday_fields = ["*", "0", "7", "MON-FRI", "5#5", "1#1,3#3", "5L", "*/2", "6,0L", "SUN-TUE"]
    tried = 0
    while tried < rounds:
        days_ = [rng.choice(choice) for choice in (day_fields, month_fields, weekday_fields)]
        expression = " ".join(["0 0", *days_])
        expected = walk.ticks(expression)
        try:
            schedule = Schedule.parse(expression)
        except ScheduleError:  # days that never come together are refused
            assert expected == [], expression
            continue
        ticks = []
        tick = schedule.next_after((start - 1) * 1000)
        while tick <= walk.shown[-1][0] * 1000:
            ticks.append(tick // 1000)
            tick = schedule.next_after(tick)
        assert ticks == expected, expression
        tried += 1


def test_a_time_that_is_always_left_out_has_no_next_tick():
    schedule = Schedule.parse("30 2 * 3 SUNL", "Europe/Madrid", dst_gap="skip")
    assert schedule.next_after(ms_of("2026-01-01", "Europe/Madrid")) is None
    assert Schedule.parse("30 2 * 3 SUNL", "Europe/Madrid").next_after(
        ms_of("2026-01-01", "Europe/Madrid")
    ) == ms_of("2026-03-29T03:00", "Europe/Madrid")


def test_a_year_that_datetime_does_not_know_has_no_tick():
    for zone in ("UTC", "Europe/Madrid", "Pacific/Kiritimati"):
        schedule = Schedule.parse("0 0 1 1 *", zone)
        assert schedule.next_after(ms_of("9998-06-01", "UTC")) == ms_of("9999-01-01", zone)
        assert schedule.next_after(ms_of("9999-06-01", "UTC")) is None
        assert schedule.next_after(2**62) is None
        assert Schedule.parse("* * * * *", zone).next_after(ms_of("1860-01-01", "UTC") - 1) is not None


@given(st.integers(1, 40 * DAY), st.integers(-(10**13), 10**13))
def test_intervals_tick_at_the_multiples_of_their_length(seconds, instant):
    schedule = Schedule.parse(f"@every {seconds}s", "Europe/Madrid")
    tick = schedule.next_after(instant)
    assert tick % (seconds * 1000) == 0
    assert 0 < tick - instant <= seconds * 1000


def test_intervals_are_written_with_units():
    first = {"30s": 30, "5m": 300, "1h30m": 5400, "2d": 2 * DAY, "1d1h1m1s": DAY + HOUR + 61, "90M": 5400}
    for text, seconds in first.items():
        assert Schedule.parse(f"@every {text}").next_after(0) == seconds * 1000


def test_a_second_question_about_the_same_stretch_is_answered_as_the_first_was():
    schedule = Schedule.parse("0 3 * * *", "Europe/Madrid")
    start = ms_of("2026-03-28T12:00", "Europe/Madrid")
    rng = random.Random(1)
    instants = [start + rng.randrange(-5 * DAY, 5 * DAY) * 1000 for _ in range(500)]
    again = [schedule.next_after(instant) for instant in instants]
    asked_once = [Schedule("", schedule.zone, "run", "once", schedule._ticks).next_after(i) for i in instants]
    assert again == asked_once
