"""What commands print: tables for people, JSON for programs.

A table fits the terminal; into a pipe nothing is cut. Text from elsewhere cannot move the cursor: control
characters are shown, not sent.
"""

import json
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import click

FORMATS = ("table", "json", "jsonl")

_GAP = 2
_NARROWEST = 8
"""Columns are not cut below this many characters; the lines grow instead."""

Command = TypeVar("Command", bound=Callable[..., Any])

Column = tuple[str, Callable[[Mapping[str, Any]], Any]]
"""A table's column: its heading, and how to take its value from a row."""


@attrs.frozen
class Output:
    """Prints in the form that was asked for."""

    form: str = "table"
    width: int | None = None
    """Characters a line may have; None: any number."""

    @property
    def for_people(self) -> bool:
        """Whether it is a table."""
        return self.form == "table"

    def rows(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[Column], *, empty: str) -> None:
        """Print a list; ``empty`` is the sentence in place of a table without rows."""
        listed = list(rows)
        if self.form == "json":
            click.echo(pretty(listed))
        elif self.form == "jsonl":
            for row in listed:
                click.echo(compact(row))
        elif listed:
            for line in table(listed, columns, self.width):
                click.echo(line)
        else:
            click.echo(empty, err=True)

    def record(self, record: Mapping[str, Any], fields: Sequence[Column] | None = None) -> None:
        """Print one thing: a line a field, or JSON."""
        if not self.for_people:
            self.item(record)
            return
        shown = (
            [(_words(key), value) for key, value in record.items()]
            if fields is None
            else [(label, take(record)) for label, take in fields]
        )
        label_width = max((len(label) for label, _ in shown), default=0)
        for label, value in shown:
            click.echo(f"{label:<{label_width}}  {cell(value)}".rstrip())

    def row(self, record: Mapping[str, Any], columns: Sequence[Column]) -> None:
        """Print one thing as a table of one row, or JSON."""
        if self.for_people:
            self.rows([record], columns, empty="")
        else:
            self.item(record)

    def line(self, record: Mapping[str, Any], columns: Sequence[Column]) -> None:
        """Print one thing of many as it comes: a line cut to the terminal, or JSON."""
        if self.for_people:
            text = "  ".join(cell(take(record)) for _, take in columns)
            click.echo(text if self.width is None else padded(text, self.width).rstrip())
        else:
            self.item(record)

    def item(self, record: Mapping[str, Any]) -> None:
        """Print one thing of many as it comes, in JSON."""
        click.echo(pretty(record) if self.form == "json" else compact(record))


def output_option(command: Command) -> Command:
    """Give a command the option ``-o`` and hand it the `Output` as ``output``."""

    def chosen(_ctx: click.Context, _parameter: click.Parameter, value: str) -> Output:
        return Output(value, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)

    option = click.option(
        "-o",
        "--output",
        "output",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        callback=chosen,
        help="A table, JSON, or JSON with one item a line.",
    )
    return option(command)


def pretty(value: Any) -> str:
    """Write JSON for reading."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def compact(value: Any) -> str:
    """Write JSON on one line."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def cell(value: Any) -> str:
    """Write a value into a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, (list, tuple)) and not any(isinstance(item, (dict, list)) for item in value):
        return ", ".join(cell(item) for item in value) or "-"
    if isinstance(value, (dict, list)):
        return plain(compact(value)) if value else "-"
    return str(value)


def plain(text: str) -> str:
    """Show control characters, so that they do nothing to a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], width: int | None) -> list[str]:
    """Lay out rows under headings; no wider than ``width`` where the columns can be cut to it."""
    lines = [[heading.upper() for heading, _ in columns]]
    lines += [[cell(take(row)) for _, take in columns] for row in rows]
    widths = fitted([max(map(columns_of, column)) for column in zip(*lines, strict=True)], width)
    return [
        (" " * _GAP).join(padded(text, size) for text, size in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def fitted(widths: Sequence[int], width: int | None) -> list[int]:
    """Cut the widest columns until all fit."""
    sizes = list(widths)
    if width is None:
        return sizes
    room = width - _GAP * (len(sizes) - 1)
    while sum(sizes) > room:
        widest = max(range(len(sizes)), key=sizes.__getitem__)
        if sizes[widest] <= _NARROWEST:
            break
        sizes[widest] -= 1
    return sizes


def padded(text: str, size: int) -> str:
    """Bring a text to ``size`` columns: filled with blanks, or cut and ended with an ellipsis."""
    if columns_of(text) > size:
        while columns_of(text) > size - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (size - columns_of(text))


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _words(key: str) -> str:
    """Turn a JSON key into words: ``lastAttemptAt`` is ``last attempt at``."""
    return "".join(f" {char.lower()}" if char.isupper() else char for char in key)
