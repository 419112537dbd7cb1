"""The systems under test: how each is started, and how one is brought to a point of a curve."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from benchmarks.harness import backlog
from benchmarks.harness.client import Client
from benchmarks.harness.processes import Cores, accepts, free_port, running, wait_for

SECRET = "whsec_ZWNvbmV1cmEtYmVuY2htYXJrLXNlY3JldC0zMmJ5dGVz"
RIVALS = Path(__file__).resolve().parents[1] / "rivals"
TITLES = {"ours": "ours", "a": "(a) Quart", "b": "(b) Starlette"}
STACKS = {
    "ours": "econeura-daemon",
    "a": "Quart-Trio + Hypercorn + sqlite3, a transaction an event + an httpx client a host",
    "b": "Starlette + uvicorn (uvloop, httptools) + aiosqlite, a transaction an event + aiohttp",
}
CONFIGURATION = """
[daemon]
state_dir = "{directory}"
[http]
bind = ["127.0.0.1:0"]
[storage]
synchronous = "full"
[webhooks]
allowed_networks = ["127.0.0.0/8"]
"""


@attrs.frozen(kw_only=True)
class Point:
    """What is measured under one label."""

    label: str
    system: str
    subscriptions: int
    fan_out: int = 1
    """Deliveries an event."""
    backlog: int = 0
    """Deliveries that a dead subscription is owed meanwhile."""

    @property
    def event_types(self) -> list[str]:
        return [f"bench.t{number}" for number in range(max(1, self.subscriptions // self.fan_out))]


@attrs.frozen
class Target:
    """A running system under test, at its point."""

    point: Point
    client: Client
    process: subprocess.Popen[bytes]
    seed_seconds: float
    start_seconds: float
    """From the start of the process to its readiness."""


@asynccontextmanager
async def open_target(point: Point, folder: Path, sinks: list[str], cores: Cores) -> AsyncGenerator[Target]:
    """Start the point's system, subscribe the sinks and owe the backlog, for the length of the block."""
    by_file = point.backlog > backlog.LARGEST_BY_API
    seed_seconds = 0.0
    if by_file:
        async with _open_system(point.system, folder, cores) as (client, _, _):
            await _subscribe(client, point, sinks)
            dead = await backlog.subscribe_dead(client, sinks[0])
        began = time.monotonic()
        await asyncio.to_thread(backlog.seed_file, folder / "econeura.db", dead, point.backlog)
        seed_seconds = time.monotonic() - began
    async with _open_system(point.system, folder, cores) as (client, process, start_seconds):
        if not by_file:
            await _subscribe(client, point, sinks)
            if point.backlog:
                began = time.monotonic()
                await backlog.subscribe_dead(client, sinks[0])
                await backlog.seed_by_api(client, point.backlog)
                seed_seconds = time.monotonic() - began
        yield Target(point, client, process, seed_seconds, start_seconds)


@asynccontextmanager
async def _open_system(
    system: str, folder: Path, cores: Cores
) -> AsyncGenerator[tuple[Client, subprocess.Popen[bytes], float]]:
    log = folder / "log"
    if system == "ours":
        config = folder / "econeura.toml"
        config.write_text(CONFIGURATION.format(directory=folder))
        ready_file = folder / "ready.json"
        ready_file.unlink(missing_ok=True)
        arguments = ["-m", "econeura_daemon", "serve", "--config", str(config)]

        def ready() -> int | None:
            return (
                urlsplit(json.loads(ready_file.read_text())["urls"][0]).port if ready_file.exists() else None
            )
    else:
        listens = free_port()
        script = {"a": "quart_rival.py", "b": "starlette_rival.py"}[system]
        arguments = [str(RIVALS / script), "--dir", str(folder), "--port", str(listens)]

        def ready() -> int | None:
            return listens if accepts(listens) else None

    began = time.monotonic()
    with running(arguments, log, cores.system) as process:
        port = await asyncio.to_thread(wait_for, ready, process, log)
        took = time.monotonic() - began
        client = Client("127.0.0.1", port)
        try:
            yield client, process, took
        except Exception as error:
            error.add_note(f"{TITLES[system]}: exit code {process.poll()}, log: {_tail(log)}")
            raise
        finally:
            client.close()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


async def _subscribe(client: Client, point: Point, sinks: list[str]) -> None:
    """Subscribe number *n* to one exact type, at sink *n* modulo their number; 16 requests at once."""
    types = point.event_types
    numbers = iter(range(point.subscriptions))

    async def some() -> None:
        for number in numbers:
            url = f"{sinks[number % len(sinks)]}/s/{number}"
            body = {"url": url, "events": [types[number % len(types)]], "secret": SECRET}
            await client.json("POST", "/v1/webhooks/subscriptions", body)

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(some())
