"""E-mails through the daemon to real workers services, over a Maildir that is written for it.

    python -m benchmarks.emails                        about three minutes
    python -m benchmarks.emails --quick                under one
    python -m benchmarks.emails --parts worker,latency

``worker``: mails a second of one workers process, asked directly. ``daemon``: what the daemon adds to a mail, one
at a time and in bulk of 50 and of 10,000: its CPU time, and the time that a caller waits longer. ``latency``: the
whole way at 50 requests a second, and with 50 users of whom each asks again when answered.

Nothing is pinned: on two cpus daemon, workers and load share them, as they would on a small machine. No mail is
processed twice.
"""

import argparse
import http.client
import itertools
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import attrs

from benchmarks.demo.mails import BEGIN, deliver, mails
from benchmarks.harness.plain_load import Loaded, closed_loop, open_loop, percentiles
from benchmarks.harness.processes import cpu_seconds, running, wait_for
from benchmarks.harness.report import table
from econeura_daemon.webhooks.signing import new_secret

PARTS = ("worker", "daemon", "latency")
DIFFERENT = 500
"""Letters that are written anew; the others are copies of these under ids of their own."""
CHUNK = 50
BULK = 10_000
RATE, USERS = 50.0, 50
GOALS = {"rate": 50.0, "users": 300.0}
"""p95, milliseconds."""
ORGANIZATION = "bench"


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short measurements, and a bulk of 1,000")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--workers", type=int, default=1, help="workers services; default 1")
    parser.add_argument("--processes", type=int, default=1, help="of each for reading mails; default 1")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    arguments.parts = [one for one in arguments.parts.split(",") if one]
    if unknown := {*arguments.parts} - {*PARTS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    arguments.seconds = 3.0 if arguments.quick else 10.0
    arguments.bulk = 1000 if arguments.quick else BULK
    arguments.mails = 6000 if arguments.quick else 30_000
    return arguments


def write_mails(folder: Path, count: int) -> list[str]:
    """Write a Maildir of so many mails, quickly."""
    for name in ("tmp", "new", "cur"):
        (folder / name).mkdir(parents=True)
    letters = list(mails(min(count, DIFFERENT)))
    ids = []
    for number in range(count):
        message_id, raw = letters[number % len(letters)]
        other = f"<b{number}{message_id[1:]}"
        deliver(
            folder,
            f"{int(BEGIN.timestamp()) + number}.M{number}P1.bench",
            raw.replace(message_id.encode(), other.encode()),
        )
        ids.append(other)
    return ids


@attrs.frozen
class Service:
    """Where a program listens, and who it is."""

    port: int
    pid: int

    def post(self, path: str, document: object) -> tuple[float, dict]:
        """Ask once, on a connection of its own that is open already; return the seconds, and the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.connect()
        body = json.dumps(document)
        begun = time.perf_counter()
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        raw = answer.read()
        seconds = time.perf_counter() - begun
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {raw[:500]!r}")
        return seconds, json.loads(raw)["data"]


@attrs.frozen
class World:
    """What is measured."""

    daemon: Service
    workers: list[Service]
    ids: Iterator[str]

    def take(self, count: int) -> list[str]:
        taken = list(itertools.islice(self.ids, count))
        if len(taken) < count:
            raise RuntimeError("there are no mails left; write more of them")
        return taken


def request(path: str, port: int, document: object) -> bytes:
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def singles(world: World, service: Service, count: int) -> list[bytes]:
    path = "/v1/workers/emails/process" if service is world.daemon else "/emails/process"
    return [
        request(path, service.port, {"messageId": one, "organizationId": ORGANIZATION})
        for one in world.take(count)
    ]


def checked(loaded: Loaded, prepared: list[bytes]) -> Loaded:
    if {*loaded.statuses} != {b"200"} or loaded.unanswered:
        raise RuntimeError(
            f"not all were answered 200: {dict(loaded.statuses)}, {loaded.unanswered} unanswered"
        )
    if loaded.answered > len(prepared):
        raise RuntimeError("mails were processed twice; prepare more of them")
    return loaded


def measure_worker(world: World, arguments: argparse.Namespace) -> dict[str, float]:
    """One workers service, asked directly by as many as keep it busy."""
    worker = world.workers[0]
    figures = {}
    expected = int(arguments.seconds * 1500)
    prepared = singles(world, worker, min(expected, arguments.mails // 6))
    before = cpu_seconds(worker.pid)
    loaded = checked(closed_loop_of(worker.port, prepared, arguments.seconds, 16), prepared)
    figures["single_a_second"] = loaded.answered / loaded.seconds
    figures["single_cpu_ms"] = (cpu_seconds(worker.pid) - before) / loaded.answered * 1e3
    ids = world.take(arguments.mails // 6)
    before, begun, done = cpu_seconds(worker.pid), time.perf_counter(), 0
    while time.perf_counter() - begun < arguments.seconds and done + CHUNK <= len(ids):
        chunk = ids[done : done + CHUNK]
        _, data = worker.post("/emails/process/bulk", {"messageIds": chunk, "organizationId": ORGANIZATION})
        _all_succeeded(data["results"], chunk)
        done += CHUNK
    figures["bulk_a_second"] = done / (time.perf_counter() - begun)
    figures["bulk_cpu_ms"] = (cpu_seconds(worker.pid) - before) / done * 1e3
    return figures


def closed_loop_of(port: int, prepared: list[bytes], seconds: float, connections: int) -> Loaded:
    """Load no longer than what is prepared lasts."""
    begun = time.perf_counter()
    first = closed_loop(port, prepared, min(seconds, 0.5), connections)
    rate = first.answered / (time.perf_counter() - begun)
    rest = prepared[first.answered :]
    lasts = 0.8 * len(rest) / rate
    return closed_loop(port, rest, min(seconds, lasts), connections)


def measure_daemon(world: World, arguments: argparse.Namespace) -> dict[str, float]:
    """By turns directly and through the daemon, so that what else the machine does falls on both."""
    worker, daemon, figures = world.workers[0], world.daemon, {}
    direct, through, cpu = [], [], 0.0
    taken = world.take(200 if arguments.quick else 600)
    for one, other in zip(taken[::2], taken[1::2], strict=True):
        direct.append(worker.post("/emails/process", {"messageId": one, "organizationId": ORGANIZATION})[0])
        before = cpu_seconds(daemon.pid)
        asked = {"messageId": other, "organizationId": ORGANIZATION}
        through.append(daemon.post("/v1/workers/emails/process", asked)[0])
        cpu += cpu_seconds(daemon.pid) - before
    figures["single_added_ms"] = (statistics.median(through) - statistics.median(direct)) * 1e3
    figures["single_cpu_us"] = cpu / len(through) * 1e6
    for size, times in ((CHUNK, 10 if arguments.quick else 30), (arguments.bulk, 1)):
        direct, through, cpu = [], [], 0.0
        for _ in range(times):
            if size == CHUNK:
                ids = world.take(size)
                asked = {"messageIds": ids, "organizationId": ORGANIZATION}
                direct.append(worker.post("/emails/process/bulk", asked)[0] / size)
            ids = world.take(size)
            before = cpu_seconds(daemon.pid)
            asked = {"messageIds": ids, "organizationId": ORGANIZATION}
            seconds, data = daemon.post("/v1/workers/emails/process/bulk", asked)
            cpu += cpu_seconds(daemon.pid) - before
            _all_succeeded(data["results"], ids)
            through.append(seconds / size)
        figures[f"bulk_{size}_a_second"] = 1 / statistics.median(through)
        figures[f"bulk_{size}_cpu_us"] = cpu / times / size * 1e6
        if direct:
            figures[f"bulk_{size}_added_ms"] = (statistics.median(through) - statistics.median(direct)) * 1e3
    return figures


def measure_latency(world: World, arguments: argparse.Namespace) -> dict[str, float]:
    daemon, figures = world.daemon, {}
    seconds = arguments.seconds * 2
    prepared = singles(world, daemon, int(seconds * RATE))
    loaded = checked(open_loop(daemon.port, prepared, seconds, RATE), prepared)
    figures |= zip(
        ("rate_p50", "rate_p95", "rate_p99"), percentiles(loaded.latencies_ms, 0.5, 0.95, 0.99), strict=True
    )
    prepared = singles(world, daemon, arguments.mails // 6)
    loaded = checked(closed_loop_of(daemon.port, prepared, arguments.seconds, USERS), prepared)
    figures |= zip(
        ("users_p50", "users_p95", "users_p99"),
        percentiles(loaded.latencies_ms, 0.5, 0.95, 0.99),
        strict=True,
    )
    figures["users_a_second"] = loaded.answered / loaded.seconds
    return figures


def _all_succeeded(results: list[dict], asked: list[str]) -> None:
    if [one["messageId"] for one in results] != asked or not all(one["success"] for one in results):
        failed = next(one for one in results if not one["success"])
        raise RuntimeError(f"not every mail of a bulk was processed: {failed}")


_DAEMON = """
[daemon]
state_dir = "{state}"
[http]
bind = ["127.0.0.1:0"]
[webhooks]
secret = "{secret}"
"""
_WORKER = """
[webhooks]
secret = "{secret}"
[worker]
daemon_url = "{daemon}"
instance_id = "{name}"
state_dir = "{state}"
mail = "{mail}"
processes = {processes}
"""


@contextmanager
def open_world(arguments: argparse.Namespace) -> Iterator[World]:
    """Start the daemon and the workers, over a Maildir that is written before."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ids, secret = write_mails(folder / "mail", arguments.mails), new_secret(secrets.token_bytes)
        config = folder / "daemon.toml"
        config.write_text(_DAEMON.format(state=folder / "daemon", secret=secret))
        url, daemon = stack.enter_context(_serving("serve", folder / "daemon", config))
        workers = []
        for number in range(arguments.workers):
            name = f"workers-{number + 1}"
            config = folder / f"{name}.toml"
            config.write_text(
                _WORKER.format(
                    secret=secret, daemon=url, name=name, state=folder / name,
                    mail=folder / "mail", processes=arguments.processes,
                )
            )  # fmt: skip
            workers.append(stack.enter_context(_serving("worker", folder / name, config))[1])
        _wait_until_healthy(url, arguments.workers)
        yield World(daemon, workers, iter(ids))


@contextmanager
def _serving(command: str, state: Path, config: Path) -> Iterator[tuple[str, Service]]:
    ready, log = state / "ready.json", config.with_suffix(".log")
    with running(["-m", "econeura_daemon", command, "--config", str(config)], log, None) as process:
        wait_for(ready.exists, process, log, 120)
        url = json.loads(ready.read_text())["urls"][0]
        port = urlsplit(url).port
        assert port is not None
        yield url, Service(port, process.pid)


def _wait_until_healthy(url: str, count: int) -> None:
    while True:
        with urlopen(f"{url}/v1/services?type=workers&status=healthy") as answer:
            if len(json.load(answer)["data"]["items"]) == count:
                return
        time.sleep(0.1)


def report(figures: dict[str, float], arguments: argparse.Namespace) -> None:
    def cell(name: str, digits: int = 1) -> str:
        return f"{figures[name]:,.{digits}f}" if name in figures else "-"

    bulk = f"bulk_{arguments.bulk}"
    if "worker" in arguments.parts:
        head = ["one workers process, asked directly", "mails/s", "CPU ms a mail"]
        rows = [
            ["one at a time, 16 connections", cell("single_a_second"), cell("single_cpu_ms", 2)],
            [f"in bulk of {CHUNK}", cell("bulk_a_second"), cell("bulk_cpu_ms", 2)],
        ]
        print(table(head, rows) + "\n")
    if "daemon" in arguments.parts:
        head = ["through the daemon", "mails/s", "added ms a mail", "its CPU us a mail"]
        rows = [
            ["one after the other", "-", cell("single_added_ms", 2), cell("single_cpu_us", 0)],
            [
                f"bulk of {CHUNK}",
                cell("bulk_50_a_second"),
                cell("bulk_50_added_ms", 3),
                cell("bulk_50_cpu_us", 0),
            ],
            [f"bulk of {arguments.bulk:,}", cell(f"{bulk}_a_second"), "-", cell(f"{bulk}_cpu_us", 0)],
        ]
        print(table(head, rows) + "\n")
    if "latency" in arguments.parts:
        head = ["the whole way", "p50 ms", "p95 ms", "p99 ms", "goal for p95"]
        rows = [
            [title, cell(f"{name}_p50"), cell(f"{name}_p95"), cell(f"{name}_p99"), f"{GOALS[name]:g} ms"]
            for name, title in (
                ("rate", f"{RATE:g} requests/s"),
                ("users", f"{USERS} users, {cell('users_a_second', 0)}/s in all"),
            )
        ]
        print(table(head, rows))


def main() -> None:
    arguments = read_arguments()
    print(
        f"Load average {os.getloadavg()[0]:.2f}, Python {sys.version.split()[0]}, {arguments.mails:,} mails\n"
    )
    figures: dict[str, float] = {}
    with open_world(arguments) as world:
        for part in arguments.parts:
            figures |= MEASURES[part](world, arguments)
    report(figures, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


MEASURES = {"worker": measure_worker, "daemon": measure_daemon, "latency": measure_latency}

if __name__ == "__main__":
    main()
