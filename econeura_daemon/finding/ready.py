"""``ready.json`` in a daemon's state directory, as it is read: where the running daemon can be reached."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

FILE = "ready.json"


class Ready(NamedTuple):
    """What the daemon says of itself once it is ready."""

    urls: tuple[str, ...]
    """Where it listens, with the real ports."""
    pid: int
    version: str
    started_at: str
    """RFC 3339."""
    run_id: str
    start_ticks: int | None
    """When the process started, in the kernel's ticks since boot: a later process with its pid has other
    ones.
    """

    def fields(self) -> dict[str, Any]:
        """Return what stands in the file and in the log's line, beside ``event``."""
        return {
            "urls": list(self.urls),
            "pid": self.pid,
            "version": self.version,
            "startedAt": self.started_at,
            "runId": self.run_id,
            "startTicks": self.start_ticks,
        }

    @property
    def alive(self) -> bool:
        """Whether the process that wrote this still runs. False may also mean: in another PID namespace."""
        ticks = start_ticks(self.pid)
        if ticks is None:
            return _hidden(self.pid)
        return self.start_ticks in {None, ticks}


def read_ready(state_dir: Path) -> Ready | None:
    """Return what the file says, or None: there is none, it may not be read, or it is none of ours."""
    try:
        raw = json.loads((state_dir / FILE).read_bytes())
        ticks = raw.get("startTicks")
        pid = int(raw["pid"])
        if pid <= 0:
            return None
        return Ready(
            urls=tuple(str(url) for url in raw["urls"]),
            pid=pid,
            version=str(raw["version"]),
            started_at=str(raw["startedAt"]),
            run_id=str(raw["runId"]),
            start_ticks=None if ticks is None else int(ticks),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def start_ticks(pid: int) -> int | None:
    """Return when a process started, or None where there is none (or only a zombie): proc(5), field 22."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def _hidden(pid: int) -> bool:
    """Return whether a process exists that we may not look at (``hidepid``)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        pass
    return False
