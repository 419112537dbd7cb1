"""Service discovery: the daemon's registry beside etcd 3.4, over HTTP, in one run.

    python -m benchmarks.registry                       everything, about twelve minutes
    python -m benchmarks.registry --quick               the same in small, two minutes
    python -m benchmarks.registry --parts sizes,watchers --systems ours

Both are on one cpu, in turn, round by round; load and watchers are on the other. etcd is taken from PATH or from
``--etcd FILE`` (Debian: the package ``etcd-server``); without it its column is left out, and the output says so.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.harness import registry_rounds as rounds_of
from benchmarks.harness.answerer import address
from benchmarks.harness.processes import Cores, environment, pinned, running, wait_for
from benchmarks.harness.registries import Ours, Registry, count, open_etcd, open_ours, send_all
from benchmarks.harness.report import Round, full_commit_us, ratio, spread, surroundings, table
from benchmarks.harness.watching import open_watchers

PARTS = ("sizes", "watchers", "unrelated", "restart", "probes", "wake")
PROBED_HOSTS = 100
LINES = (
    ("registration, CPU us", "cpu_us_a_registration", 0),
    ("registrations/s, 16 at once", "registrations_a_second", 0),
    ("heartbeats: share of the core", "heartbeat_core_share", 3),
    ("heartbeat answered, p50 ms", "heartbeat_ms_p50", 1),
    ("heartbeat answered, p99 ms", "heartbeat_ms_p99", 1),
    ("change answered, p50 ms", "write_answered_ms_p50", 1),
    ("change to a watcher's last byte, p50 ms", "notified_ms_p50", 1),
    ("change to a watcher's last byte, p99 ms", "notified_ms_p99", 1),
    ("change to the last watcher's, p50 ms", "last_ms_p50", 1),
    ("change to the last watcher's, max ms", "last_ms_max", 1),
    ("CPU ms a change", "cpu_ms_a_change", 1),
    ("the load's CPU ms a change", "load_cpu_ms_a_change", 1),
    ("unrelated writes: share of the core", "unrelated_core_share", 3),
    ("unrelated write answered, p99 ms", "unrelated_ms_p99", 1),
    ("false wakes", "false_wakes", 0),
    ("stop to start to all listed, s", "restart_seconds", 2),
    ("the same with nothing in it, s", "empty_restart_seconds", 2),
    ("store to whole snapshot, s", "load_seconds", 2),
    ("bytes an instance, filled", "bytes_an_instance", 0),
    ("bytes an instance, after a restart", "bytes_an_instance_restarted", 0),
    ("probes: share of the core", "probe_core_share", 3),
    ("the same without probes", "idle_core_share", 3),
    ("commit to a task's waking, p50 ms", "wake_ms_p50", 2),
    ("commit to a task's waking, p99 ms", "wake_ms_p99", 2),
    ("a one-row commit, us", "full_commit_us", 0),
)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short round, the largest points only")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"which of {', '.join(PARTS)}; default: all")
    parser.add_argument("--systems", default="ours,etcd", help="which of ours, etcd; default: both")
    parser.add_argument("--etcd", default=shutil.which("etcd"), help="the program; default: the one in PATH")
    parser.add_argument("--sizes", help="instances; default 100,1000,10000, quick 1000")
    parser.add_argument("--watchers", help="default 10,100,1000, quick 100")
    parser.add_argument("--rate", type=float, default=1000, help="writes a second; default 1000")
    parser.add_argument("--seconds", type=float, help="a measurement; default 10, quick 3")
    parser.add_argument("--changes", type=int, help="watched changes a round; default 40, quick 10")
    parser.add_argument("--probed", type=int, help="instances under probes; default 2000, quick 200")
    parser.add_argument("--rounds", type=int, help="default 3, quick 1")
    parser.add_argument(
        "--dir", type=Path, help="where temporary files go: a real disk; default: the system's"
    )
    parser.add_argument("--json", type=Path, help="write every round's figures there")
    arguments = parser.parse_args()
    for name, quick, full in (
        ("sizes", "1000", "100,1000,10000"),
        ("watchers", "100", "10,100,1000"),
        ("seconds", 3.0, 10.0),
        ("changes", 10, 40),
        ("probed", 200, 2000),
        ("rounds", 1, 3),
    ):
        if getattr(arguments, name) is None:
            setattr(arguments, name, quick if arguments.quick else full)
    for name in ("sizes", "watchers"):
        setattr(arguments, name, [int(number) for number in getattr(arguments, name).split(",")])
    for name in ("parts", "systems"):
        setattr(arguments, name, [part for part in getattr(arguments, name).split(",") if part])
    if unknown := {*arguments.parts} - {*PARTS} | {*arguments.systems} - {"ours", "etcd"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if "etcd" in arguments.systems and not arguments.etcd:
        say("There is no etcd in PATH, so its column is left out (Debian: apt-get install etcd-server).")
        arguments.systems.remove("etcd")
    return arguments


class Bench:
    """One run."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, cores: Cores) -> None:
        self.arguments = arguments
        self.folder = folder
        self.cores = cores
        self.result: dict[str, dict[str, list[Round]]] = {}

    @asynccontextmanager
    async def open_all(self, name: str) -> AsyncGenerator[list[Registry]]:
        """Start every system that is asked for, on an empty folder of its own."""
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(self._open(system, name)) for system in self.arguments.systems
            ]

    def _open(self, system: str, name: str):
        folder = self.folder / f"{name}-{system}"
        folder.mkdir(exist_ok=True)
        if system == "ours":
            return open_ours(folder, self.cores)
        return open_etcd(folder, self.cores, self.arguments.etcd)

    def note(self, part: str, label: str, figures: Round) -> None:
        figures["full_commit_us"] = full_commit_us(self.folder)
        self.result.setdefault(part, {}).setdefault(label, []).append(figures)
        say(f"{part}: {label}: " + ", ".join(f"{k} {v:.3g}" for k, v in figures.items()))

    async def in_turn(
        self, part: str, point: str, registries: list[Registry], measure: Callable[..., Any]
    ) -> None:
        for _ in range(self.arguments.rounds):
            for registry in registries:
                self.note(part, f"{registry.title}, {point}", await measure(registry))

    async def with_everything(self) -> None:
        """Fill up to each size; with the last of them, watch."""
        arguments = self.arguments
        async with self.open_all("filled") as registries:
            empty = {one.title: await rounds_of.memory(one) for one in registries}
            there = 0
            for size in arguments.sizes:
                for registry in registries:
                    await rounds_of.fill(registry, there, size)
                there = size
                if "sizes" in arguments.parts:
                    await self._size(registries, size, empty)
            for registry in registries:
                await rounds_of.fill_watched(registry)
                if await count(registry) != there + 10:
                    raise RuntimeError(f"{registry.title} lost instances")
            if "watchers" in arguments.parts:
                for watchers in arguments.watchers:
                    await self._watchers(registries, watchers)
            if "unrelated" in arguments.parts:
                for watchers in (0, arguments.watchers[-1]):
                    await self._unrelated(registries, there, watchers)

    async def _size(self, registries: list[Registry], size: int, empty: dict[str, int]) -> None:
        arguments = self.arguments

        async def measure(registry: Registry) -> Round:
            used = (await rounds_of.memory(registry) - empty[registry.title]) / size
            return {
                **await rounds_of.registrations(registry, size),
                **await rounds_of.heartbeats(registry, size, arguments.rate, arguments.seconds),
                "bytes_an_instance": used,
            }

        await self.in_turn("sizes", f"{size:,}", registries, measure)

    async def _watchers(self, registries: list[Registry], number: int) -> None:
        async def measure(registry: Registry) -> Round:
            async with open_watchers(registry, number) as watchers:
                return await rounds_of.watched_changes(registry, watchers, number, self.arguments.changes)

        await self.in_turn("watchers", f"{number:,} watch", registries, measure)

    async def _unrelated(self, registries: list[Registry], size: int, number: int) -> None:
        rate, seconds = self.arguments.rate, self.arguments.seconds

        async def measure(registry: Registry) -> Round:
            if not number:
                return await rounds_of.unrelated(registry, None, size, rate, seconds)
            async with open_watchers(registry, number) as watchers:
                return await rounds_of.unrelated(registry, watchers, size, rate, seconds)

        await self.in_turn("unrelated", f"{number:,} watch", registries, measure)

    async def restart(self) -> None:
        """Stop with the largest number of instances, start, and list them all."""
        size = self.arguments.sizes[-1]
        for system in self.arguments.systems:
            async with self._open(system, "restart") as registry:
                await rounds_of.fill(registry, 0, size)
            for _ in range(self.arguments.rounds):
                figures: Round = {}
                async with self._open(system, f"empty-{_}") as registry:
                    await send_all(registry, [registry.whole()])
                    figures["empty_restart_seconds"] = registry.start_seconds
                    empty = await rounds_of.memory(registry)
                async with self._open(system, "restart") as registry:
                    began = asyncio.get_running_loop().time()
                    if await count(registry) != size:
                        raise RuntimeError(f"{registry.title} lost instances")
                    listed = asyncio.get_running_loop().time() - began
                    figures["restart_seconds"] = registry.start_seconds + listed
                    figures["bytes_an_instance_restarted"] = (await rounds_of.memory(registry) - empty) / size
                if isinstance(registry, Ours):
                    folder = self.folder / f"restart-{system}"
                    daemon = (folder / "daemon_id").read_text().strip()
                    figures |= self._inside("load", folder, "--daemon", daemon)
                self.note("restart", f"{registry.title}, {size:,}", figures)

    async def probes(self) -> None:
        """Probe as many as there are to be, once in 30 s each; after a while that first results take."""
        number, arguments = self.arguments.probed, self.arguments
        log = self.folder / "answerer.log"
        command = ["-m", "benchmarks.harness.answerer", "--hosts", str(PROBED_HOSTS)]
        with running(command, log, self.cores.load) as process:
            await asyncio.to_thread(wait_for, lambda: log.read_bytes().endswith(b"]\n"), process, log)
            ports = [int(url.split(":")[2].partition("/")[0]) for url in json.loads(log.read_text())]
            async with self._open("ours", "probes") as registry:
                idle = await rounds_of.idle(registry, arguments.seconds)
                bodies = [
                    {
                        "type": "probed",
                        "id": f"probed-{n}",
                        "host": address(n % PROBED_HOSTS),
                        "port": ports[n % PROBED_HOSTS],
                        "check": {"intervalMs": 30_000},
                    }
                    for n in range(number)
                ]
                for body in bodies:
                    await send_all(registry, [registry.client.prepare("POST", "/v1/services", body)])
                await asyncio.sleep(8)  # a second result comes after five seconds, then one in thirty
                for _ in range(arguments.rounds):
                    share = await rounds_of.idle(registry, 3 if arguments.quick else 33)
                    stats = await registry.client.json("GET", "/v1/discovery/stats")
                    if stats["healthyServices"] != number + 1:
                        raise RuntimeError(f"not all are healthy: {stats}")
                    figures = {"probe_core_share": share, "idle_core_share": idle}
                    self.note("probes", f"ours, {number:,} in 30 s", figures)

    async def wake(self) -> None:
        """From the commit to the waking of a waiting task, inside the daemon's own code."""
        for number in self.arguments.watchers:
            for turn in range(self.arguments.rounds):
                folder = self.folder / f"wake-{number}-{turn}"
                folder.mkdir()
                figures = self._inside("wake", folder, "--watchers", str(number))
                self.note("wake", f"ours, {number:,} wait", figures)

    def _inside(self, what: str, folder: Path, *arguments: str) -> Round:
        command = [sys.executable, "-m", "benchmarks.harness.registry_inside", what, str(folder), *arguments]
        with pinned(self.cores.system):
            done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout)

    def print(self) -> None:
        for part, rounds in self.result.items():
            rows = []
            for name, key, digits in LINES:
                cells = [spread(several, key) for several in rounds.values()]
                if any(cells):
                    rows.append([name, *(cell.text(digits) if cell else "-" for cell in cells)])
            print(f"\n{part}\n\n{table(['', *rounds], rows)}")
            for line in _ratios(rounds):
                print(line)


def _ratios(rounds: dict[str, list[Round]]) -> list[str]:
    lines = []
    for label, ours in rounds.items():
        point = label.removeprefix("ours, ")
        theirs = rounds.get(f"etcd 3.4, {point}")
        if point == label or theirs is None:
            continue
        found = [
            f"{name} x {ratio(ours, theirs, key).text(2)}"
            for name, key, _ in LINES
            if key != "full_commit_us" and all(one.get(key) for one in (*ours, *theirs))
        ]
        lines.append(f"ours / etcd, {point}: {'; '.join(found)}")
    return lines


async def main(arguments: argparse.Namespace, folder: Path) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    cores = Cores.choose()
    facts = surroundings(folder)
    print(
        f"Python {facts['python']}, SQLite {facts['sqlite']}, Linux {facts['kernel']}, {facts['cpus']} cpus, "
        f"load average {facts['load_average']:.1f}; "
        f"one-row commit with synchronous=FULL: {facts['full_commit_us']} us"
    )
    if cores.system is None:
        say("warning: one cpu only; systems and load share it")
    else:
        os.sched_setaffinity(0, {cores.load})
    bench = Bench(arguments, folder, cores)
    try:
        if {"sizes", "watchers", "unrelated"} & {*arguments.parts}:
            await bench.with_everything()
        for part in ("restart", "probes", "wake"):
            if part in arguments.parts:
                await getattr(bench, part)()
    finally:
        bench.print()
        if arguments.json:
            document: dict[str, Any] = {"surroundings": facts, **bench.result}
            arguments.json.write_text(json.dumps(document, indent=1))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
