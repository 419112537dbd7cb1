"""Schedules against croniter in its cron-bug mode (a day field that begins with ``*`` narrows the other one).

Both read the same expressions, except three forms that croniter takes for others and that are therefore not drawn:
``5-5`` it takes for ``*``, ``3/2`` among weekdays leaves out 7, and so do its ranges that end with it. What differs
around a shift of the clocks is named here; everything else must agree.
"""

import random
from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim

from econeura_daemon.cron.expressions import Schedule
from tests.support.cron_oracle import Reading, shifts

ZONES = ["Europe/Madrid", "Australia/Lord_Howe", "America/New_York", "Africa/Casablanca", "Antarctica/Troll"]
GAP = "a wildcard job whose time is left out: croniter runs it at the gap's end, Debian does not"
FOLD = "a fixed time that comes twice: croniter may run it the second time, Debian does not"


def field(rng, low, high):
    one, other = sorted(rng.sample(range(low, high + 1), 2))
    step = rng.randint(1, 9)
    forms = ["*", f"*/{step}", f"{one}", f"{one},{other}", f"{one}-{other}", f"{one}-{other}/{step}"]
    return rng.choice(forms if high == 6 else [*forms, f"{one}/{step}"])


def days(rng):
    return rng.choice(
        [
            "* * *",
            f"{field(rng, 1, 28)} {field(rng, 1, 12)} *",
            f"{field(rng, 1, 28)} * {field(rng, 0, 6)}",
            f"* * {field(rng, 0, 6)}",
            "L * *",
            "* * 5#2",
            "* JAN-JUN MON-FRI",
        ]
    )


def croniters(expression, zone, instant):
    start = datetime.fromtimestamp(instant, ZoneInfo(zone))
    return int(croniter(expression, start, ret_type=datetime, implement_cron_bug=True).get_next().timestamp())


@pytest.mark.rounds(short=3_000, soak=100_000)
def test_away_from_shifts_of_the_clocks_croniter_agrees(rounds):
    rng = random.Random(11)
    for _ in range(rounds):
        expression = f"{field(rng, 0, 59)} {field(rng, 0, 23)} {days(rng)}"
        instant = rng.randint(1_577_836_800, 1_830_000_000)
        ours = Schedule.parse(expression).next_after(instant * 1000)
        assert ours == croniters(expression, "UTC", instant) * 1000, (expression, instant)


def named_difference(expression, zone, ours, theirs):
    """Why the two may differ, None if they may not."""
    real_time = Reading(expression).real_time
    if not real_time and datetime.fromtimestamp(theirs, ZoneInfo(zone)).fold:
        return FOLD
    year = datetime.fromtimestamp(theirs, UTC).year
    return GAP if real_time and theirs in shifts(zone, year, year) and theirs < ours else None


@pytest.mark.rounds(short=3_000, soak=100_000)
def test_near_shifts_croniter_differs_only_as_named(rounds):
    rng = random.Random(12)
    near = {zone: shifts(zone, 2022, 2026) for zone in ZONES}
    named = Counter()
    for _ in range(rounds):
        zone = rng.choice(ZONES)
        expression = f"{field(rng, 0, 59)} {field(rng, 0, 4)} {days(rng)}"
        instant = rng.choice(near[zone]) + rng.randint(-86_400, 3 * 3600)
        ours = Schedule.parse(expression, zone).next_after(instant * 1000) // 1000
        theirs = croniters(expression, zone, instant)
        if ours != theirs:
            reason = named_difference(expression, zone, ours, theirs)
            assert reason, (expression, zone, instant, ours, theirs)
            named[reason] += 1
    assert set(named) == {GAP, FOLD}
    assert named.total() < rounds / 20


def test_the_faults_of_cronsim_that_we_work_around_are_still_there():
    """When this fails, cronsim has mended them; `cron.calendar` still may keep it away from zones."""
    madrid = ZoneInfo("Europe/Madrid")
    second_showing = datetime(2026, 10, 25, 2, 15, tzinfo=madrid, fold=1)
    assert next(CronSim("30 2 * * *", second_showing)) < second_showing.astimezone(UTC)  # back in time

    lord_howe = ZoneInfo("Australia/Lord_Howe")
    before = datetime(2026, 4, 4, 18, 0, tzinfo=lord_howe)
    assert next(CronSim("* 3 * * *", before)).minute == 30  # steps of an hour over a shift of half an hour

    noon = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    assert next(CronSim("0 5-5/2 * * *", noon)).hour == 13  # 5-5/2 read as 5/2
