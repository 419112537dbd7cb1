"""``cron next``: when a schedule is due."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from econeura_daemon.cli.arguments import Instant
from econeura_daemon.cli.output import Column, Output, output_option
from econeura_daemon.core.clock import SystemClock, format_ms, from_ms, parse_instant, to_ms

_TICKS: list[Column] = [
    ("local time", lambda row: _readable(row["localTime"])),
    ("utc", lambda row: row["scheduledFor"]),
    ("remark", lambda row: row["remark"]),
]


def _readable(local: str) -> str:
    """Return a local time with its weekday, which half of the expressions are about."""
    return datetime.fromisoformat(local).strftime("%a %Y-%m-%d %H:%M:%S %z")


@click.command("next")
@click.argument("expression")
@click.option("--zone", default="UTC", show_default=True, help="IANA name of the time zone: Europe/Madrid.")
@click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many runs.")
@click.option("--after", type=Instant(ahead=True), help="Later than this instant, or in so long: 30d.")
@click.option(
    "--dst-gap",
    type=click.Choice(("run", "skip")),
    default="run",
    show_default=True,
    help="A time that clocks leave out runs when they go on, or not at all.",
)
@click.option(
    "--dst-fold",
    type=click.Choice(("once", "twice")),
    default="once",
    show_default=True,
    help="A time that comes twice runs the first time, or both.",
)
@output_option
def next_runs(
    *, output: Output, expression: str, zone: str, count: int, after: str | None, dst_gap: Any, dst_fold: Any
) -> None:
    """Show when EXPRESSION is due next, in its zone's time and in UTC; needs no daemon.

    EXPRESSION is '0 3 * * MON-FRI', or six fields with seconds first, @daily, '@every 90m'.
    """
    from econeura_daemon.cron import Schedule, upcoming

    schedule = Schedule.parse(expression, zone, dst_gap=dst_gap, dst_fold=dst_fold)
    start = to_ms(SystemClock().now() if after is None else parse_instant(after))
    rows = [_row(found.tick, found.remark, schedule.zone) for found in upcoming(schedule, start, count)]
    output.rows(rows, _TICKS, empty="It is never due again.")


def _row(tick: int, remark: str, zone: ZoneInfo) -> Mapping[str, Any]:
    local = from_ms(tick).astimezone(zone).isoformat()
    return {"localTime": local, "scheduledFor": format_ms(tick), "remark": remark or None}
