"""Cron with 100,000 jobs, and with 10,000 beside APScheduler 3.

python -m benchmarks.cron                        about three minutes
python -m benchmarks.cron --quick                a tenth of it
python -m benchmarks.cron --parts rivals,burst
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness.processes import Cores, environment, pinned
from benchmarks.harness.report import full_commit_us, table

PARTS = ("rivals", "ticks", "spread", "burst")
LINES = (
    ("open to first look, s", "start_up_seconds", 1, 2),
    ("memory for it, MiB", "rss_bytes", 1 / 2**20, 1),
    ("of that a job, bytes", "rss_bytes_a_job", 1, 0),
    ("ticks", "ticks", 1, 0),
    ("of", "expected", 1, 0),
    ("late, p50 ms", "late_ms_p50", 1, 1),
    ("late, p99 ms", "late_ms_p99", 1, 1),
    ("late, longest ms", "late_ms_max", 1, 1),
    ("CPU us a tick", "cpu_us_a_tick", 1, 0),
    ("share of the core", "core", 1, 3),
)
BURST = (
    ("runs", "jobs", 1, 0),
    ("due to the last one recorded, s", "took_seconds", 1, 1),
    ("runs a second", "runs_a_second", 1, 0),
    ("CPU us a tick", "cpu_us_a_tick", 1, 0),
    ("loop lag, p50 ms", "lag_ms_p50", 1, 1),
    ("loop lag, p99 ms", "lag_ms_p99", 1, 1),
    ("loop lag, longest ms", "lag_ms_max", 1, 1),
    ("RSS before, MiB", "rss_before_bytes", 1 / 2**20, 0),
    ("RSS at its peak, MiB", "rss_peak_bytes", 1 / 2**20, 0),
)


def run(program, *arguments):
    """What a side prints; it has the system's core to itself."""
    with pinned(Cores.choose().system):
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.harness.{program}", *map(str, arguments)],
            check=True, stdout=subprocess.PIPE, text=True, env=environment(), timeout=600,
        )  # fmt: skip
    return json.loads(done.stdout)


def measured(program, folder, jobs, a_second, seconds, *more):
    """Fill a store, then start on it and tick."""
    folder.mkdir()
    sizes = ("--jobs", jobs, "--a-second", a_second)
    jitter = [word for word in more if word == "--jitter"]
    if "memory" not in more:
        run(program, "fill", folder, *sizes, *jitter)
    rest = [word for word in more if word != "--jitter"]
    figures = run(program, "ticks", folder, *sizes, "--seconds", seconds, *rest)
    return figures | {"rss_bytes_a_job": figures["rss_bytes"] / jobs, "expected": a_second * seconds}


def shown(columns, lines):
    """One column a side, one line a figure."""
    rows = [
        [name, *(f"{found[key] * factor:,.{digits}f}" if key in found else "-" for found in columns.values())]
        for name, key, factor, digits in lines
    ]
    return table(["", *columns], rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs, five seconds each")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--seconds", type=int, help="of ticking; default 15")
    parser.add_argument("--dir", type=Path, help="where the databases go: a real disk; default: the system's")
    given = parser.parse_args()
    parts = given.parts.split(",")
    jobs, a_second = (10_000, 100) if given.quick else (100_000, 1000)
    few, few_a_second = (1000, 10) if given.quick else (10_000, 100)
    seconds = given.seconds or (5 if given.quick else 15)
    with tempfile.TemporaryDirectory(prefix="econeura-bench-", dir=given.dir) as scratch:
        folder = Path(scratch)
        print(f"one-row commit: {full_commit_us(folder):.0f} us", flush=True)
        if "rivals" in parts:
            sizes = (few, few_a_second, seconds)
            sides = {
                "ours": measured("cron_ours", folder / "few", *sizes),
                "APScheduler, SQLite": measured("cron_rival", folder / "rival", *sizes),
                "APScheduler, memory": measured("cron_rival", folder / "memory", *sizes, "--store", "memory"),
            }
            print(f"\n{few:,} jobs, {few_a_second} due at each second, {seconds} s\n\n{shown(sides, LINES)}")
        sides = {}
        if "ticks" in parts:
            sides["at :SS.000"] = measured("cron_ours", folder / "many", jobs, a_second, seconds)
        if "spread" in parts:
            name = folder / "spread"
            sides["jitter of 1 s"] = measured("cron_ours", name, jobs, a_second, seconds, "--jitter")
        if sides:
            print(f"\n{jobs:,} jobs, {a_second:,} due a second, {seconds} s\n\n{shown(sides, LINES)}")
        if "burst" in parts:
            name = folder / "burst"
            name.mkdir()
            run("cron_ours", "fill", name, "--jobs", jobs, "--a-second", a_second)
            sides = {"burst": run("cron_ours", "burst", name)}
            print(f"\n{jobs:,} jobs due at one second\n\n{shown(sides, BURST)}")


if __name__ == "__main__":
    main()
