"""What is shown: each step with the command that one would type, and what came of it."""

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, TextIO

import trio

_WIDTH = 110
_LONGEST = 700
"""Characters of an answer."""


class Transcript:
    """Prints, with the seconds since the beginning before what happens by itself."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._begun = trio.current_time()
        self._width = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns)
        self._colours = out.isatty()

    def title(self, text: str) -> None:
        """Begin a part."""
        self._print()
        self._print(self._in(f"== {text} ".ljust(self._width, "="), "1"))

    def says(self, text: str) -> None:
        """Explain."""
        self._print()
        for line in textwrap.wrap(text, self._width):
            self._print(line)

    def asks(self, command: str) -> None:
        """Show a command."""
        self._print(self._in(f"$ {command}", "36"))

    def answers(self, status: int, document: Any) -> None:
        """Show what was answered."""
        text = json.dumps(document, ensure_ascii=False)
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]} …"
        colour = "32" if status < 400 else "33"
        self._print(self._in(str(status), colour) + " " + text)

    def happened(self, what: str, facts: Mapping[str, Any] | str) -> None:
        """Show something that came by itself."""
        told = (
            facts if isinstance(facts, str) else ", ".join(f"{name} {value}" for name, value in facts.items())
        )
        self._print(f"  {trio.current_time() - self._begun:5.1f} s  {self._in(what, '35')}  {told}")

    def _in(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text

    def _print(self, text: str = "") -> None:
        print(text, file=self._out, flush=True)
