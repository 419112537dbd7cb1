"""Tests that have the machine to themselves, though the others run several at a time.

Every test is in a room; one marked ``alone`` goes in when the others have left, and nobody comes in meanwhile. Who
waits for the room stands at a door that the others pass too, so a stream of short tests keeps nobody waiting.
"""

import fcntl
import tempfile
from contextlib import contextmanager
from pathlib import Path


def _places(run):
    folder = Path(tempfile.gettempdir())
    return folder / f"econeura-tests-{run}-door", folder / f"econeura-tests-{run}-room"


@contextmanager
def _held(path, how):
    with path.open("a") as file:
        fcntl.flock(file, how)  # given back when the file is closed, or its process dies
        yield


@contextmanager
def in_the_room(run, *, alone):
    """Hold the room of this run of the tests for the length of the block: with others, or alone."""
    door, room = _places(run)
    how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with _held(door, how):
        file = room.open("a")
        fcntl.flock(file, how)
    with file:
        yield


def clear_away(run):
    for path in _places(run):
        path.unlink(missing_ok=True)
