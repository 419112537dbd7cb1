"""Schedules that do not fit: refused, with the field named and what is allowed."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.expressions import LONGEST, Schedule

REFUSED = {
    "": ("expression", "expected five fields such as '0 3 * * *', or @daily, or @every 5m"),
    "* * * *": ("expression", "6 with seconds first, got 4"),
    "0 0 3 * * * 2026": ("expression", "got 7; there is none for years"),
    "1" * (LONGEST + 1): ("expression", "at most 512"),
    "CRON_TZ=UTC 0 3 * * *": ("expression", "the time zone is a setting of its own"),
    "@reboot": ("expression", "@reboot is no time"),
    "@dayly": ("expression", "did you mean '@daily'?"),
    "@daily 3": ("expression", "'@daily 3' is not one of"),
    "@every": ("@every", "expected a time such as 30s, 5m, 1h30m or 2d"),
    "@every 5": ("@every", "got '5'"),
    "@every 0s": ("@every", "not between 1s and 366d"),
    "@every 500ms": ("@every", "got '500ms'"),
    "@every 367d": ("@every", "not between 1s and 366d"),
    "60 * * * * *": ("second", "60 is more than 59"),
    "60 * * * *": ("minute", "60 is more than 59"),
    "*/0 * * * *": ("minute", "the step of '*/0' must be a number from 1"),
    "*/ * * * *": ("minute", "the step of '*/'"),
    "1,,2 * * * *": ("minute", "comma with nothing beside it"),
    "-5 * * * *": ("minute", "an empty value is not known; use 0 to 59"),
    "1.5 * * * *": ("minute", "'1.5' is not known; use 0 to 59"),
    "٣ * * * *": ("minute", "is not known; use 0 to 59"),
    "0 25 * * *": ("hour", "25 is more than 23"),
    "0 22-2 * * *": ("hour", "22-2 goes backwards; write 22-23,0-2"),
    "0 MON * * *": ("hour", "'MON' is not known; use 0 to 23"),
    "0 0 0 * *": ("day of month", "0 is less than 1"),
    "0 0 32 * *": ("day of month", "32 is more than 31"),
    "0 0 ? * 1": ("day of month", "'?' is not used here; write *"),
    "0 0 15W * *": ("day of month", "only LW"),
    "0 0 L-3 * *": ("day of month", "'L' is not known; use 1 to 31"),
    "0 0 L/2 * *": ("day of month", "'L' is one day, so it takes no step"),
    "0 0 31 2 *": ("day of month", "it would never run"),
    "0 0 30-31 2 *": ("day of month", "it would never run"),
    "0 0 31 4,6,9,11 *": ("day of month", "it would never run"),
    "0 0 */3 2 1#5": ("day of month", "it would never run"),
    "0 0 * 13 *": ("month", "13 is more than 12"),
    "0 0 * MAI *": ("month", "'MAI' is not known; use 1 to 12, or JAN to DEC"),
    "0 0 * January *": ("month", "did you mean JAN?"),
    "0 0 * * 8": ("day of week", "8 is more than 7"),
    "0 0 * * FRI-MON": ("day of week", "FRI-MON goes backwards; write 5-7,1"),
    "0 0 * * SAT-SUN": ("day of week", "SAT-SUN goes backwards; write 6-7"),
    "0 0 * * 1#6": ("day of week", "after # goes 1 to 5"),
    "0 0 * * MON-FRI#2": ("day of week", "'MON-FRI' is not known"),
    "0 0 * * L": ("day of week", "'L' is not known"),
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:30] or "nothing")
def test_what_does_not_fit_is_refused_and_the_field_named(text):
    field, detail = REFUSED[text]
    with pytest.raises(ScheduleError) as refused:
        Schedule.parse(text)
    assert refused.value.field == field
    assert detail in refused.value.detail
    assert str(refused.value) == f"{field}: {refused.value.detail}"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../etc",
        "/etc/passwd",
        "Europe",
        "Nope/X",
        "a\0b",
        "right/UTC",
        "localtime",
        "zone.tab",
        "x" * 300,
        "\ud800",
    ],
)
def test_what_is_no_time_zone_is_refused(name):
    with pytest.raises(ScheduleError) as refused:
        Schedule.parse("@daily", name)
    assert refused.value.field == "timeZone"
    assert len(str(refused.value)) < 300


def test_a_misspelt_time_zone_gets_a_suggestion():
    for name in ("Europe/Madird", "europe/madrid"):
        with pytest.raises(ScheduleError, match="did you mean 'Europe/Madrid'"):
            Schedule.parse("@daily", name)


pieces = st.sampled_from(
    [
        "*",
        "/",
        "-",
        ",",
        "#",
        "L",
        "W",
        "0",
        "5",
        "31",
        "59",
        "60",
        "MON",
        "feb",
        "@every ",
        "@daily",
        " ",
        "9" * 30,
        "é",
    ]
)
near_expressions = st.lists(
    st.one_of(pieces, st.lists(pieces, max_size=6).map("".join)), min_size=4, max_size=8
).map(" ".join)


@given(st.one_of(st.text(), near_expressions), st.one_of(st.just("UTC"), st.text()))
@example("0 0 29 2 1#5", "UTC")
@example(",".join(["*"] * 250) + " * * * *", "UTC")
@example("0 0 */3 2 1#5", "Europe/Madrid")
@example("@every " + "9" * 400 + "d", "UTC")
def test_parsing_ends_soon_with_a_schedule_or_a_refusal(text, zone):
    started = time.process_time()
    try:
        schedule = Schedule.parse(text, zone)
    except ScheduleError as refused:
        assert refused.detail  # noqa: PT017
    else:
        tick = schedule.next_after(1_790_000_000_000)
        assert tick is not None
        assert tick > 1_790_000_000_000
    assert time.process_time() - started < 0.5  # ms in fact, but for the first look through all zones
