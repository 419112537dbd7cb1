"""``cron next``: the next runs and what clocks do to them."""

import json

import pytest

from econeura_daemon.cli.exits import Exit
from econeura_daemon.cli.root import run


def shown(capsys, *arguments):
    assert run(["cron", "next", *arguments, "-o", "jsonl"]) == Exit.DONE
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [(row["localTime"][5:16], row["remark"]) for row in rows]


def remarks(capsys, expression, zone, after, *more, count=4):
    rows = shown(capsys, expression, "--zone", zone, "--after", after, "--count", str(count), *more)
    return [(local, remark) for local, remark in rows if remark is not None]


def test_the_table_shows_local_time_and_utc(capsys):
    arguments = ["0 3 * * 1", "--zone", "Europe/Madrid", "--after", "2026-11-24T02:00:00Z", "--count", "1"]
    assert run(["cron", "next", *arguments]) == Exit.DONE
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["LOCAL", "TIME", "UTC", "REMARK"]
    assert row.split() == ["Mon", "2026-11-30", "03:00:00", "+0100", "2026-11-30T02:00:00.000Z", "-"]


def test_ten_runs_from_now_on_are_shown_if_nothing_else_is_said(capsys):
    rows = shown(capsys, "@every 30s")
    assert len(rows) == 10
    assert all(remark is None for _, remark in rows)


@pytest.mark.parametrize(
    ("expression", "more", "expected"),
    [
        (
            "30 2 * * *",
            [],
            [("03-29T03:00", "clocks go forward: 29 Mar 02:30 does not exist, runs at 03:00")],
        ),
        (
            "30 2 * * SUN",
            [],
            [("03-29T03:00", "clocks go forward: 29 Mar 02:30 does not exist, runs at 03:00")],
        ),
        (
            "30 2 * * SUN",
            ["--dst-gap", "skip"],
            [("04-05T02:30", "clocks went forward: 29 Mar 02:30 did not exist and was left out")],
        ),
        (
            "*/30 2 * * *",
            [],
            [("03-30T02:00", "clocks went forward: 29 Mar 02:00 did not exist and was left out")],
        ),
        ("30 4 * * *", [], []),
        ("@every 1h", [], []),
    ],
)
def test_clocks_that_go_forward_are_remarked(capsys, expression, more, expected):
    assert remarks(capsys, expression, "Europe/Madrid", "2026-03-28T12:00:00Z", *more) == expected


def test_clocks_that_go_back_are_remarked(capsys):
    day = ("Europe/Madrid", "2026-10-24T12:00:00Z")
    once = "clocks go back: this time comes twice, runs once"
    first, second = (
        f"clocks go back: this time comes twice, runs twice ({nth})" for nth in ("first", "second")
    )
    twice = [("10-25T02:30", first), ("10-25T02:30", second)]
    assert remarks(capsys, "30 2 * * *", *day) == [("10-25T02:30", once)]
    assert remarks(capsys, "30 2 * * *", *day, "--dst-fold", "twice") == twice
    assert remarks(capsys, "30 */2 * * *", *day, count=12) == twice
    assert remarks(capsys, "30 3 * * *", *day) == []


def test_what_is_never_due_again_is_said(capsys):
    arguments = [
        "30 2 * 3 SUNL",
        "--zone",
        "Europe/Madrid",
        "--after",
        "2026-01-01T00:00:00Z",
        "--dst-gap",
        "skip",
    ]
    assert run(["cron", "next", *arguments]) == Exit.DONE
    assert capsys.readouterr().err == "It is never due again.\n"


def test_a_schedule_that_does_not_fit_is_refused_with_its_field(capsys):
    assert run(["cron", "next", "0 25 * * *"]) == Exit.FAILED
    assert capsys.readouterr().err == "Error: hour: 25 is more than 23\n"
    assert run(["cron", "next", "@daily", "--zone", "Europe/Madird"]) == Exit.FAILED
    assert "did you mean 'Europe/Madrid'?" in capsys.readouterr().err
    assert run(["cron", "next", "@daily", "--count", "0"]) == Exit.USAGE
