"""What a program prints, one JSON document a line, as it comes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio


class Lines:
    """Reads a file that another process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.seen: list[dict[str, Any]] = []

    def look(self) -> list[dict[str, Any]]:
        """Return what came since the last look; half a line is left for the next."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole + newline)
        new = [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]
        self.seen += new
        return new

    async def wait_for(
        self, wanted: Callable[[dict[str, Any]], bool], count: int, seconds: float = 20
    ) -> list[dict[str, Any]]:
        """Return the first so many that are wanted, of all that came, once they have come; fewer after ``seconds``."""
        with trio.move_on_after(seconds):
            while True:
                self.look()
                found = [one for one in self.seen if wanted(one)]
                if len(found) >= count:
                    return found[:count]
                await trio.sleep(0.05)
        return [one for one in self.seen if wanted(one)]
