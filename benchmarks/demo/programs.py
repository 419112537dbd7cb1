"""Programs of this package, for the length of a block: each in a session of its own, so that Ctrl-C is ours."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
"""At most: a small machine that compiles everything for the first time."""
STOP_SECONDS = 15
_SETTINGS = ("ECONEURA", "SERVICE_", "WEBHOOK_", "WORKERS_")


class ProgramError(Exception):
    """A program ended, or did not begin."""


@attrs.define
class Program:
    """One process, what it said, and where it listens."""

    name: str
    process: trio.Process
    log: Path
    url: str = ""

    def kill(self) -> None:
        """End it without a chance to react."""
        self.process.send_signal(signal.SIGKILL)

    def last_words(self) -> str:
        """Return the end of what it logged."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


def environment() -> dict[str, str]:
    """This process's, without settings that the demonstration makes itself."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_SETTINGS)
        and not name.lower().endswith("_proxy")
        and name not in {"DATABASE_URL", "STATE_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"}
    }
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@asynccontextmanager
async def running(name: str, folder: Path, *arguments: str) -> AsyncGenerator[Program]:
    """Run ``econeura-daemon ARGUMENTS`` for the length of the block, with its output in ``<name>.log`` and ``.out``."""
    log = folder / f"{name}.log"
    with log.open("ab") as errors, (folder / f"{name}.out").open("ab") as output:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "econeura_daemon", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=folder,
            env=environment(),
            start_new_session=True,
        )
    program = Program(name, process, log)
    try:
        yield program
    finally:
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.terminate()
                with trio.move_on_after(STOP_SECONDS):
                    await process.wait()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def begun(program: Program, is_ready: Callable[[], bool]) -> None:
    """Wait until a program is ready. Raises `ProgramError`."""
    with trio.move_on_after(START_SECONDS):
        while not is_ready():
            if program.process.poll() is not None:
                raise ProgramError(f"{program.name} ended at once:\n{program.last_words()}")
            await trio.sleep(0.05)
    if not is_ready():
        raise ProgramError(f"{program.name} is not ready after {START_SECONDS} s:\n{program.last_words()}")


async def served(program: Program, state: Path) -> None:
    """Wait until a program has written ``ready.json`` into its state directory. Raises `ProgramError`."""
    ready = state / "ready.json"
    await begun(program, ready.exists)
    program.url = json.loads(ready.read_text())["urls"][0]
