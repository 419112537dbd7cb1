"""``ready.json`` in the state directory, as it is written; `finding.ready` reads it."""

import json
import os
from pathlib import Path

from econeura_daemon.finding.ready import FILE, Ready


def write_ready(state_dir: Path, ready: Ready) -> None:
    """Write the file in one step, so that no reader sees half of it. Raises OSError."""
    path = state_dir / FILE
    new = path.with_name(f".{FILE}.{os.getpid()}")
    try:
        new.write_text(json.dumps({"event": "ready", **ready.fields()}) + "\n")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def remove_ready(state_dir: Path) -> None:
    """Remove the file, if it is there."""
    (state_dir / FILE).unlink(missing_ok=True)
