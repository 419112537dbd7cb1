"""The gateway beside nginx and HAProxy as reverse proxies, and beside a proxy of Quart, Hypercorn and httpx.

    python -m benchmarks.gateway                       three rounds, about four minutes
    python -m benchmarks.gateway --quick               one short round, half a minute
    python -m benchmarks.gateway --systems direct,ours --parts small --rounds 5
    python -m benchmarks.gateway --parts steps         what a call costs besides its I/O, without any network

All gateways run at once on the first cpu and are measured in turn, round by round; the load and the upstream have the
last one. nginx and HAProxy are Debian's (``nginx-light``, ``haproxy``): they are started here, as this user, on ports
of loopback, and ended with the run. HAProxy is left out where it is not installed, and the output says so.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import trio

from benchmarks.harness import mesh_steps
from benchmarks.harness.gateways import SYSTEMS, Gateway, open_upstream, program, version_of
from benchmarks.harness.plain_load import closed_loop, open_loop, percentiles
from benchmarks.harness.processes import Cores, cpu_seconds, pinned
from benchmarks.harness.report import Round, ratio, spread, table

PARTS = ("small", "post", "large", "latency", "steps")
REQUESTS = {
    "small": ("GET", "/emails/{}", 0),
    "post": ("POST", "/emails/process", 400),
    "large": ("GET", "/large", 0),
}
PATHS = 20_000
"""Different ones, where a request's path differs."""
TITLES = {"small": "GET, 100 bytes, 20,000 paths", "post": "POST of 400 bytes", "large": "GET, 64 KiB"}
GOALS = (("ours", "quart", 10.0),)
ADDED = (("p50", 0.5), ("p99", 5.0))
STEPS_GOAL = 15.0


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"of {', '.join(SYSTEMS)}; default: all")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, help="default 3, quick 1")
    parser.add_argument("--seconds", type=float, help="a measurement; default 2.5, quick 1")
    parser.add_argument("--latency-seconds", type=float, help="default 5, quick 2")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=500, help="requests a second of the latencies")
    parser.add_argument("--json", type=Path, help="write every round's figures there")
    arguments = parser.parse_args()
    for name, quick, full in (("rounds", 1, 3), ("seconds", 1.0, 2.5), ("latency_seconds", 2.0, 5.0)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, quick if arguments.quick else full)
    for name, known in (("systems", SYSTEMS), ("parts", PARTS)):
        asked = [one for one in getattr(arguments, name).split(",") if one]
        if unknown := {*asked} - {*known}:
            parser.error(f"unknown: {', '.join(sorted(unknown))}")
        setattr(arguments, name, asked)
    if "haproxy" in arguments.systems and program("haproxy") is None:
        print("There is no haproxy, so its row is left out (Debian: apt-get install haproxy).")
        arguments.systems.remove("haproxy")
    return arguments


def prepare(gateway: Gateway, part: str) -> list[bytes]:
    """The requests, in turn: those of ``small`` differ, so that nobody answers from a memory of heads."""
    method, path, size = REQUESTS[part]
    head = f"Host: 127.0.0.1:{gateway.port}\r\nAccept: */*\r\n"
    if size:
        head += f"Content-Type: application/json\r\nContent-Length: {size}\r\n"
    paths = [path.format(number) for number in range(PATHS)] if "{}" in path else [path]
    return [f"{method} {gateway.prefix}{one} HTTP/1.1\r\n{head}\r\n".encode() + b"x" * size for one in paths]


def saturated(gateway: Gateway, part: str, upstream: int, arguments: argparse.Namespace) -> Round:
    prepared = prepare(gateway, part)
    closed_loop(gateway.port, prepared, arguments.seconds / 5, arguments.connections)
    before = [time.process_time(), cpu_seconds(upstream), cpu_seconds(gateway.pid) if gateway.pid else 0.0]
    loaded = closed_loop(gateway.port, prepared, arguments.seconds, arguments.connections)
    after = [time.process_time(), cpu_seconds(upstream), cpu_seconds(gateway.pid) if gateway.pid else 0.0]
    load, up, own = (b - a for a, b in zip(before, after, strict=True))
    if set(loaded.statuses) != {b"200"}:
        raise RuntimeError(f"answers that were not 200: {dict(loaded.statuses)}")
    return {
        f"{part}_rate": loaded.answered / loaded.seconds,
        f"{part}_cpu_us": own / loaded.answered * 1e6 if gateway.pid else None,
        f"{part}_busy": own / loaded.seconds,
        f"{part}_load_busy": (load + up) / loaded.seconds,
    }


def latency(gateway: Gateway, arguments: argparse.Namespace) -> Round:
    prepared = prepare(gateway, "small")
    open_loop(gateway.port, prepared, 0.3, arguments.rate)
    before = cpu_seconds(gateway.pid) if gateway.pid else 0.0
    loaded = open_loop(gateway.port, prepared, arguments.latency_seconds, arguments.rate)
    cpu = (cpu_seconds(gateway.pid) if gateway.pid else 0.0) - before
    if loaded.statuses.total() != loaded.statuses[b"200"]:
        raise RuntimeError(f"answers that were not 200: {dict(loaded.statuses)}")
    p50, p99 = percentiles(loaded.latencies_ms, 0.5, 0.99)
    return {
        "p50": p50,
        "p99": p99,
        "unanswered": loaded.unanswered,
        "rate_cpu_us": cpu / loaded.answered * 1e6 if gateway.pid else None,
    }


def measure(arguments: argparse.Namespace) -> dict[str, list[Round]]:
    """Return every round's figures of every system."""
    cores = Cores.choose()
    rounds: dict[str, list[Round]] = {name: [] for name in arguments.systems}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("upstream", *arguments.systems):
            (folder / name).mkdir()
        upstream, ports = stack.enter_context(open_upstream(folder / "upstream", cores))
        gateways = {
            name: stack.enter_context(SYSTEMS[name][1](folder / name, cores, ports))
            for name in arguments.systems
        }
        stack.enter_context(pinned(cores.load))
        for _ in range(arguments.rounds):
            for name, gateway in gateways.items():
                figures: Round = {}
                for part in arguments.parts:
                    if part in REQUESTS:
                        figures |= saturated(gateway, part, upstream, arguments)
                if "latency" in arguments.parts:
                    figures |= latency(gateway, arguments)
                rounds[name].append(figures)
    direct = rounds.get("direct")
    if direct and "latency" in arguments.parts:
        for name, measured in rounds.items():
            for figures, base in zip(measured, direct, strict=True):
                if name != "direct":
                    figures |= {f"added_{p}": figures[p] - base[p] for p in ("p50", "p99")}
    return rounds


def report(rounds: dict[str, list[Round]], parts: list[str]) -> None:
    def cells(name, *columns):
        found = ((spread(rounds[name], key), digits) for key, digits in columns)
        return [SYSTEMS[name][0], *(one.text(digits) if one else "-" for one, digits in found)]

    for part in parts:
        if part in REQUESTS:
            columns = (
                (f"{part}_rate", 0),
                (f"{part}_cpu_us", 0),
                (f"{part}_busy", 2),
                (f"{part}_load_busy", 2),
            )
            head = [TITLES[part], "requests/s", "CPU us", "busy", "load and upstream busy"]
            print(table(head, [cells(name, *columns) for name in rounds]))
            for theirs in ("nginx", "haproxy", "quart"):
                if "ours" in rounds and theirs in rounds:
                    by_rate = ratio(rounds["ours"], rounds[theirs], f"{part}_rate").text(2)
                    by_cpu = ratio(rounds[theirs], rounds["ours"], f"{part}_cpu_us").text(2)
                    goal = "".join(f"; goal {goal:g}" for _, them, goal in GOALS if them == theirs)
                    print(f"  ours against {SYSTEMS[theirs][0]}: x {by_rate}, by CPU x {by_cpu}{goal}")
            print()
    if "latency" in parts:
        columns = (
            ("p50", 2),
            ("p99", 2),
            ("added_p50", 2),
            ("added_p99", 2),
            ("rate_cpu_us", 0),
            ("unanswered", 0),
        )
        head = ["at the rate", "p50 ms", "p99 ms", "added p50", "added p99", "CPU us", "unanswered"]
        print(table(head, [cells(name, *columns) for name in rounds]))
        print(f"  goals: ours adds {' and '.join(f'{name} <= {goal:g} ms' for name, goal in ADDED)}\n")


def steps(times: int) -> None:
    from benchmarks import primitives

    trio.run(_primitives, primitives.whole_calls, times)
    print("\nall steps of a call but its I/O, us (chosen, counted, in the ring of the last calls)")
    for size, figure in mesh_steps.curve(times // 10).items():
        print(f"{size:>6} instances {figure:8.1f}")
    print(f"  goal: pick, limit and breaker <= {STEPS_GOAL:g} us with 20 instances")


async def _primitives(whole_calls, times):
    whole_calls(times)


def main() -> None:
    arguments = read_arguments()
    versions = [version_of(name) for name in ("nginx", "haproxy") if name in arguments.systems]
    print(f"Load average {os.getloadavg()[0]:.2f}, Python {sys.version.split()[0]}; {'; '.join(versions)}\n")
    if {*REQUESTS, "latency"} & {*arguments.parts}:
        rounds = measure(arguments)
        report(rounds, arguments.parts)
        if arguments.json:
            arguments.json.write_text(json.dumps(rounds, indent=1))
    if "steps" in arguments.parts:
        steps(20_000 if arguments.quick else 50_000)


if __name__ == "__main__":
    main()
