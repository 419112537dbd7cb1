"""Kinds of arguments that several commands take."""

import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from econeura_daemon.core.clock import SystemClock, format_instant, parse_instant

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # not generic before click 8.2

_AGO = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Instant(_ParamType):
    """An instant: RFC 3339, or how long ago (``15m``); with ``ahead`` how far ahead."""

    name = "when"

    def __init__(self, *, ahead: bool = False) -> None:
        self._sign = 1 if ahead else -1

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it in RFC 3339, UTC."""
        span = _AGO.fullmatch(value)
        try:
            if span is not None:
                distance = timedelta(**{_UNITS[span[2]]: int(span[1])})
                return format_instant(SystemClock().now() + self._sign * distance)
            return format_instant(parse_instant(value))
        except OverflowError:
            self.fail(f"{value!r} is out of range", param, ctx)
        except ValueError as error:
            self.fail(f"{error}; or a span such as 15m, 2h, 1d", param, ctx)


class Duration(_ParamType):
    """A length of time: ``500ms``, ``30s``, ``5m``, ``2h``, ``1d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in milliseconds."""
        if isinstance(value, int):
            return value
        span = _DURATION.fullmatch(value)
        if span is None:
            self.fail(f"expected a duration such as 500ms, 30s or 5m, got {value!r}", param, ctx)
        return int(span[1]) * _MILLISECONDS[span[2]]


class JsonSource(_ParamType):
    """JSON: the text itself, ``@FILE``, or ``-`` for standard input."""

    name = "json|@file|-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value."""
        if not isinstance(value, str):
            return value
        text = self._text(value, param, ctx)
        try:
            return json.loads(text, parse_constant=lambda name: self.fail(f"{name} is not JSON", param, ctx))
        except (ValueError, RecursionError) as error:
            self.fail(f"not valid JSON: {error}", param, ctx)

    def _text(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            if value == "-":
                return sys.stdin.read()
            return Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value
        except UnicodeDecodeError:
            self.fail("not UTF-8", param, ctx)
        except OSError as error:
            self.fail(f"{value[1:]}: {error.strerror}", param, ctx)


class SecretSource(_ParamType):
    """A secret: the text itself, or ``@FILE``."""

    name = "text|@file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the secret without its line's end."""
        if not value.startswith("@"):
            return str(value)
        try:
            return Path(value[1:]).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            self.fail(f"the file {value[1:]} cannot be read", param, ctx)


class Names(_ParamType):
    """A list, separated by commas."""

    name = "a,b"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Return the items."""
        if isinstance(value, list):
            return value
        names = [name.strip() for name in value.split(",") if name.strip()]
        if not names:
            self.fail("expected at least one", param, ctx)
        return names
