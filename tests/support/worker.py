"""Real workers services in processes of their own, over a Maildir of sample mails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import trio

from tests.support.daemon import REPOSITORY, START_SECONDS, RunningDaemon
from tests.support.waiting import until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def write_worker_config(folder: Path, daemon_url: str, mail: Path, name: str, extra: str = "") -> Path:
    """Write a configuration: free port, one process for mails, its state in ``folder / name``."""
    path = folder / f"{name}.toml"
    path.write_text(
        f'[webhooks]\nsecret = "{SECRET}"\n'
        f'[worker]\ndaemon_url = "{daemon_url}"\ninstance_id = "{name}"\n'
        f'state_dir = "{folder / name}"\nmail = "{mail}"\nprocesses = 1\n{extra}\n'
    )
    return path


async def start_worker(config: Path) -> RunningDaemon:
    """Start a workers service and return once it is ready; AssertionError with its log if it ends before."""
    state_dir, log = config.with_suffix(""), config.with_suffix(".log")
    ready = state_dir / "ready.json"
    ready.unlink(missing_ok=True)
    with log.open("ab") as stderr:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "econeura_daemon", "worker", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            cwd=REPOSITORY,
            env={**os.environ},
        )

    async def is_ready() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the worker ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        return ready.exists()

    await until(is_ready, START_SECONDS)
    return RunningDaemon(process, state_dir, log, json.loads(ready.read_text())["urls"][0])
