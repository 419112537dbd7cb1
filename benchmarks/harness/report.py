"""Rounds into medians with their range, and these into text."""

import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs

Round = dict[str, Any]


@attrs.frozen
class Spread:
    """The median of several rounds, and how far they lay apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 0) -> str:
        if self.low == self.high:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def spread(rounds: Sequence[Round], key: str) -> Spread | None:
    values = [r[key] for r in rounds if r.get(key) is not None]
    return Spread.of(values) if values else None


def ratio(ours: Sequence[Round], theirs: Sequence[Round], key: str) -> Spread:
    """Of one round to the rival's next to it in time, so that what else the machine did falls on both."""
    return Spread.of([a[key] / b[key] for a, b in zip(ours, theirs, strict=True)])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, ["-" * width for width in widths], *rows]
    ]
    return "\n".join(lines)


LINES = (
    ("delivered/s", "delivered_a_second", 0),
    ("202 to delivered, p50 ms", "answered_to_delivered_ms_p50", 1),
    ("202 to delivered, p99 ms", "answered_to_delivered_ms_p99", 1),
    ("due to delivered, p50 ms", "scheduled_to_delivered_ms_p50", 1),
    ("due to delivered, p99 ms", "scheduled_to_delivered_ms_p99", 1),
    ("due to 202, p99 ms", "scheduled_to_answered_ms_p99", 1),
    ("CPU us/event, saturated", "cpu_us_an_event", 0),
    ("CPU us/event, at the rate", "cpu_us_an_event_at_rate", 0),
    ("RSS peak, MiB", "rss_mib", 0),
    ("busy: the system's core", "system_core_busy", 2),
    ("busy: the load's core", "load_core_busy", 2),
    ("refused (not a 202)", "refused", 0),
    ("refused, at the rate", "latency_refused", 0),
    ("delivered twice", "repeats", 0),
    ("a one-row commit, us", "full_commit_us", 0),
)


def points_table(rounds_by_label: dict[str, list[Round]]) -> str:
    """One column a point, one line a figure."""
    rows = []
    for name, key, digits in LINES:
        cells = [spread(rounds, key) for rounds in rounds_by_label.values()]
        if any(cells):
            rows.append([name, *(cell.text(digits) if cell else "-" for cell in cells)])
    return table(["", *rounds_by_label], rows)


def curve_lines(rounds_by_label: dict[str, list[Round]]) -> str:
    """Every point against the first one, round by round."""
    first, *others = rounds_by_label
    lines = []
    for label in others:
        ours, theirs = rounds_by_label[label], rounds_by_label[first]
        throughput, cost = ratio(ours, theirs, "delivered_a_second"), ratio(ours, theirs, "cpu_us_an_event")
        lines.append(
            f"  {label} against {first}: delivered/s x {throughput.text(2)}, CPU/event x {cost.text(2)}"
        )
    return "\n".join(lines)


def surroundings(folder: Path) -> dict[str, Any]:
    """What the figures depend on beside the programs."""
    packages = (
        "trio",
        "hypercorn",
        "quart",
        "httpx",
        "starlette",
        "uvicorn",
        "aiohttp",
        "aiosqlite",
        "uvloop",
    )
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "kernel": platform.release(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "full_commit_us": round(full_commit_us(folder)),
        "packages": {name: version(name) for name in packages},
    }


def full_commit_us(folder: Path) -> float:
    """The median time of a one-row transaction with ``synchronous=FULL`` in this folder, microseconds.

    A few tens mean that the disk does not really sync (tmpfs): all group commits look too cheap there.
    """
    path = folder / "commit.db"
    times = []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (x)")
        for _ in range(100):
            began = time.perf_counter()
            connection.execute("INSERT INTO t VALUES (1)")
            times.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(times) * 1e6
