"""A real daemon in a process of its own, on free loopback ports, with its state in a folder of the test's."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import attrs
import trio

from tests.support.http_client import Client, open_client
from tests.support.waiting import until

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 30
PROGRAM = ("-m", "econeura_daemon")
NO_OWN_JOBS = {"ECONEURA__CRON__CLEANUP": ""}
"""Tests that count what happens must not depend on the minute in which they run."""


@attrs.define
class RunningDaemon:
    """One process."""

    process: trio.Process
    state_dir: Path
    log: Path
    url: str

    def client(self) -> AbstractAsyncContextManager[Client]:
        """Connect a client to the daemon's API."""
        return open_client(self.url)

    def kill(self) -> None:
        """End it without a chance to react."""
        self.process.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to drain."""
        self.process.send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        return await self.process.wait()

    def log_lines(self) -> list[dict]:
        """Return what it logged so far."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def write_config(state_dir: Path, extra: str = "", http: str = "") -> Path:
    """Write a configuration: free port, loopback receivers allowed, plus ``extra``."""
    path = state_dir.parent / f"{state_dir.name}.toml"
    path.write_text(
        f'[daemon]\nstate_dir = "{state_dir}"\ndrain_timeout_ms = 5000\n'
        f'[http]\nbind = ["127.0.0.1:0"]\n{http}\n'
        f'[webhooks]\nallowed_networks = ["127.0.0.0/8", "::1/128"]\n{extra}\n'
    )
    return path


async def start_daemon(
    config: Path,
    environ: Mapping[str, str] = {},
    program: Sequence[str] = PROGRAM,
    command: str = "serve",
) -> RunningDaemon:
    """Start a daemon and return once it is ready; AssertionError with its log if it ends before."""
    state_dir = Path(_state_dir_of(config))
    log = config.with_suffix(".log")
    ready = state_dir / "ready.json"
    ready.unlink(missing_ok=True)
    with log.open("ab") as stderr:
        process = await trio.lowlevel.open_process(
            [sys.executable, *program, command, "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            cwd=REPOSITORY,
            env={**os.environ, **NO_OWN_JOBS, **environ},
        )

    async def is_ready() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the daemon ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        return ready.exists()

    await until(is_ready, START_SECONDS)
    document = json.loads(ready.read_text())
    return RunningDaemon(process, state_dir, log, document["urls"][0])


def _state_dir_of(config: Path) -> str:
    (line,) = [line for line in config.read_text().splitlines() if line.startswith("state_dir")]
    return line.partition('"')[2].rstrip('"')


@asynccontextmanager
async def open_running_daemon(
    config: Path,
    environ: Mapping[str, str] = {},
    program: Sequence[str] = PROGRAM,
    command: str = "serve",
) -> AsyncGenerator[RunningDaemon]:
    """Run a daemon for the length of the block; it is killed at the end if it still runs."""
    daemon = await start_daemon(config, environ, program, command)
    try:
        yield daemon
    finally:
        with trio.CancelScope(shield=True):
            if daemon.process.poll() is None:
                daemon.kill()
            await daemon.wait()
