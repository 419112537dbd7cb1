"""End to end: an event is committed, answered 202, signed, POSTed to a local sink, and its attempt recorded.

The daemon beside two programs that a user would otherwise write (`rivals/`), in turn on one cpu; generator
and sinks are on another. See README.md for how to read the figures.

    python -m benchmarks.webhooks                      everything, about half an hour
    python -m benchmarks.webhooks --quick              the same in small, a few minutes
    python -m benchmarks.webhooks --systems a,b --no-curves
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import uvloop

from benchmarks.harness.measure import Load, Sinks, one_round, warm_up
from benchmarks.harness.processes import Cores, peak_rss_bytes, running, wait_for
from benchmarks.harness.report import Round, curve_lines, points_table, ratio, surroundings
from benchmarks.harness.systems import STACKS, TITLES, Point, Target, open_target

HOSTS = 100


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short round, small curves")
    parser.add_argument("--systems", default="ours,a,b", help="which of ours, a, b; default: all")
    parser.add_argument(
        "--curve-systems", default="ours", help="for the curve over subscriptions; default: ours"
    )
    parser.add_argument("--curves", default="subscriptions,backlog", help="which curves; default: both")
    parser.add_argument("--no-curves", dest="curves", action="store_const", const="")
    parser.add_argument("--no-comparison", action="store_true", help="the curves alone")
    parser.add_argument(
        "--pipelined-batch",
        action="store_true",
        help="ours again by POST /v1/events/batch: 100 events a request, 2 requests a connection",
    )
    parser.add_argument("--rounds", type=int, help="default 5, quick 1")
    parser.add_argument("--curve-rounds", type=int, help="default 3, quick 1")
    parser.add_argument("--seconds", type=float, help="of ingest in a throughput run; default 5, quick 2")
    parser.add_argument("--latency-seconds", type=float, help="default 10, quick 3")
    parser.add_argument(
        "--rate", type=float, default=200, help="events/s while latency is measured; default 200"
    )
    parser.add_argument("--connections", type=int, default=64, help="of the closed loop; default 64")
    parser.add_argument("--subscriptions", type=int, default=100, help="default 100")
    parser.add_argument(
        "--fan-out", type=int, default=1, help="subscriptions that an event matches; default 1"
    )
    parser.add_argument(
        "--subscription-points", default=None, help="default 10,100,1000,10000; quick 10,1000"
    )
    parser.add_argument(
        "--backlog-points", default=None, help="default 0,10000,100000,1000000; quick 0,10000"
    )
    parser.add_argument(
        "--dir", type=Path, help="where temporary files go: a real disk; default: the system's"
    )
    parser.add_argument("--json", type=Path, help="write every round's figures there")
    arguments = parser.parse_args()
    for name, quick, full in (
        ("rounds", 1, 5),
        ("curve_rounds", 1, 3),
        ("seconds", 2.0, 5.0),
        ("latency_seconds", 3.0, 10.0),
        ("subscription_points", "10,1000", "10,100,1000,10000"),
        ("backlog_points", "0,10000", "0,10000,100000,1000000"),
    ):
        if getattr(arguments, name) is None:
            setattr(arguments, name, quick if arguments.quick else full)
    if unknown := {*_split(arguments.systems), *_split(arguments.curve_systems)} - TITLES.keys():
        parser.error(f"unknown system: {', '.join(sorted(unknown))}")
    return arguments


class Bench:
    """One run: its sinks, its folder, its cores."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, cores: Cores, sinks: Sinks) -> None:
        self.arguments = arguments
        self.folder = folder
        self.cores = cores
        self.sinks = sinks
        self.load = Load(
            connections=arguments.connections,
            seconds=arguments.seconds,
            rate=arguments.rate,
            latency_seconds=arguments.latency_seconds,
        )
        self.result: dict[str, Any] = {}

    async def measure(
        self, name: str, points: list[Point], rounds: int, load: Load
    ) -> dict[str, list[Round]]:
        """Start every point's system, then measure them in turn, ``rounds`` times; idle, they cost little."""
        measured: dict[str, list[Round]] = {point.label: [] for point in points}
        async with AsyncExitStack() as stack:
            targets: list[Target] = []
            for number, point in enumerate(points):
                say(f"{name}: starting {point.label}")
                folder = Path(tempfile.mkdtemp(prefix=f"{name}-{number}-", dir=self.folder))
                target = await stack.enter_async_context(
                    open_target(point, folder, self.sinks.urls, self.cores)
                )
                await warm_up(target, self.sinks, load)
                targets.append(target)
            for number in range(rounds):
                for target in targets:
                    figures = await one_round(target, self.sinks, load, self.folder)
                    measured[target.point.label].append(figures)
                    say(
                        f"{name}: round {number + 1} of {rounds}, {target.point.label}: "
                        f"{figures['delivered_a_second']:,.0f} delivered/s"
                    )
            for target in targets:
                for figures in measured[target.point.label]:
                    figures["rss_mib"] = peak_rss_bytes(target.process.pid) / 2**20
                    figures["seed_seconds"] = target.seed_seconds
                    figures["start_seconds"] = target.start_seconds
        self.result[name] = measured
        return measured

    async def comparison(self) -> None:
        arguments = self.arguments
        systems = _split(arguments.systems)
        points = [
            Point(label=TITLES[s], system=s, subscriptions=arguments.subscriptions, fan_out=arguments.fan_out)
            for s in systems
        ]
        measured = await self.measure("comparison", points, arguments.rounds, self.load)
        print(
            f"\n{arguments.subscriptions} subscriptions, {arguments.fan_out} matched by an event; throughput "
            f"from {arguments.connections} connections, latency at {arguments.rate:g} events/s\n"
        )
        print("".join(f"{TITLES[s]}: {STACKS[s]}\n" for s in systems))
        print(points_table(measured))
        if "ours" in systems:
            ours = measured[TITLES["ours"]]
            for rival in [s for s in systems if s != "ours"]:
                times = ratio(ours, measured[TITLES[rival]], "delivered_a_second")
                print(f"ours / {TITLES[rival]}: delivered/s x {times.text(1)}")

    async def batches(self) -> None:
        load = attrs.evolve(self.load, batches=True, latency_seconds=0, connections=8)
        points = [Point(label="ours, in batches", system="ours", subscriptions=self.arguments.subscriptions)]
        measured = await self.measure("batches", points, self.arguments.rounds, load)
        print("\n100 events a request, 2 requests under way on each of 8 connections\n")
        print(points_table(measured))

    async def subscriptions_curve(self) -> None:
        for system in _split(self.arguments.curve_systems):
            points = [
                Point(label=f"{count:,}", system=system, subscriptions=count)
                for count in map(int, _split(self.arguments.subscription_points))
            ]
            name = f"subscriptions-{system}"
            measured = await self.measure(name, points, self.arguments.curve_rounds, self.load)
            print(f"\n{TITLES[system]}: cost over subscriptions, each event matching one\n")
            print(points_table(measured))
            print(curve_lines(measured))

    async def backlog_curve(self) -> None:
        subscriptions = self.arguments.subscriptions
        points = [
            Point(label=f"{count:,}", system="ours", subscriptions=subscriptions, backlog=count)
            for count in map(int, _split(self.arguments.backlog_points))
        ]
        measured = await self.measure("backlog", points, self.arguments.curve_rounds, self.load)
        print("\ncost over deliveries that are owed to a dead subscription meanwhile\n")
        print(points_table(measured))
        print(curve_lines(measured))
        for label, rounds in measured.items():
            print(f"  {label}: ready {rounds[0]['start_seconds']:.1f} s after its start")


async def main(arguments: argparse.Namespace, folder: Path) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    cores = Cores.choose()
    facts = surroundings(folder)
    print(
        f"Python {facts['python']}, SQLite {facts['sqlite']}, Linux {facts['kernel']}, {facts['cpus']} cpus, "
        f"load average {facts['load_average']:.1f}; "
        f"one-row commit with synchronous=FULL: {facts['full_commit_us']} us"
    )
    if facts["full_commit_us"] < 100:
        say("warning: commits are suspiciously fast; is this a real disk? see --dir")
    if cores.system is None:
        say("warning: one cpu only; systems, generator and sinks share it")
    else:
        os.sched_setaffinity(0, {cores.load})
    log, control = folder / "sinks.log", folder / "sinks.sock"
    command = ["-m", "benchmarks.harness.sinks", "--hosts", str(HOSTS), "--control", str(control)]
    with running(command, log, cores.load) as process:
        await asyncio.to_thread(wait_for, lambda: log.read_bytes().endswith(b"]\n"), process, log)
        urls = json.loads(log.read_text())
        async with Sinks.connected(process.pid, urls, control) as sinks:
            bench = Bench(arguments, folder, cores, sinks)
            bench.result["surroundings"] = facts
            bench.result["arguments"] = {k: str(v) for k, v in vars(arguments).items()}
            try:
                if not arguments.no_comparison:
                    await bench.comparison()
                if arguments.pipelined_batch:
                    await bench.batches()
                if "subscriptions" in _split(arguments.curves):
                    await bench.subscriptions_curve()
                if "backlog" in _split(arguments.curves):
                    await bench.backlog_curve()
            finally:
                if arguments.json:
                    arguments.json.write_text(json.dumps(bench.result, indent=1))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _split(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


if __name__ == "__main__":
    given = read_arguments()
    with (
        tempfile.TemporaryDirectory(prefix="econeura-bench-", dir=given.dir) as scratch,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        try:
            runner.run(main(given, Path(scratch)))
        except (asyncio.CancelledError, KeyboardInterrupt):
            say("stopped; everything that was started is ended")
            sys.exit(1)
