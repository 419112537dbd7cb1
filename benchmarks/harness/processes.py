"""Starting, pinning, measuring and ending processes, each by its own id."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

_TICK = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Cores:
    """Which cpu is the system's, which the load's; None: not pinned."""

    system: int | None
    load: int | None

    @classmethod
    def choose(cls) -> "Cores":
        """The first for the system under test, the last for generator and sinks."""
        available = sorted(os.sched_getaffinity(0))
        if len(available) < 2:
            return cls(None, None)
        return cls(available[0], available[-1])


@contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Run the block on ``cpu``; a process started in it stays there, with all its threads."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def environment() -> dict[str, str]:
    """This process's, without what would change a system's settings or send loopback traffic to a proxy."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("ECONEURA", "SERVICE_", "WEBHOOK_", "WORKERS_"))
        and not name.lower().endswith("_proxy")
        and name not in {"DATABASE_URL", "STATE_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"}
    }
    root = str(Path(__file__).resolve().parents[2])
    return kept | {"PYTHONPATH": root}


@contextmanager
def running(
    arguments: Sequence[str], log: Path, cpu: int | None, program: str = sys.executable
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``program arguments`` for the length of the block; SIGTERM, then SIGKILL to its session."""
    with log.open("ab") as output, pinned(cpu):
        process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def tail(log: Path, lines: int = 25) -> str:
    """The end of a log, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def wait_for(condition, process: subprocess.Popen[bytes], log: Path, seconds: float = 60):
    """Return what ``condition`` returns once it is true; say what the log says if that never happens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} exited with {process.returncode}:\n{tail(log)}")
        if result := condition():
            return result
        time.sleep(0.02)
    raise RuntimeError(f"{process.args} was not ready within {seconds} s:\n{tail(log)}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and all below it, the dead included once they were waited for."""
    total = 0
    for member in _tree(pid):
        fields = _stat(member)
        total += sum(map(int, fields[11:15])) if fields else 0
    return total / _TICK


def peak_rss_bytes(pid: int) -> int:
    """The sum of the peaks of the process and all below it."""
    total = 0
    for member in _tree(pid):
        try:
            status = Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    return total


def rss_bytes(pid: int) -> int:
    """What the process itself has in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _tree(root: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    members = {root}
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    return members


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which may itself hold blanks and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
