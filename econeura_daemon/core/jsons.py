"""JSON as the daemon reads and writes it: UTF-8, compact, at most `MAX_DEPTH` levels, no NaN, no lost digits."""

import json
import re
from typing import Any

import orjson

from econeura_daemon.core.errors import InvalidInputError

MAX_DEPTH = 64
"""Levels of nesting that are read (docs/http-api.md); beyond it a parser's recursion becomes an attack."""

_KINDS = bytes.maketrans(b"0123456789E", b"0000000000e")
_LONG_NUMBERS = (b"0" * 16, b"0." + b"0" * 15, b"e000", b"e+000", b"e-000")
"""Of what kind of characters a number is made that may not survive 64 bits; only bodies that hold one, in a
number or in a text, take the slow, exact way.
"""

_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def loads(raw: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Read one JSON document.

    Integers of any length are kept as they are. Raises `InvalidInputError` that says what and where.
    """
    _refuse_depth(raw, max_depth)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError.at("$", f"not valid JSON: {error}") from None
    kinds = raw.translate(_KINDS)  # a regular expression takes fifteen times as long
    if any(long in kinds for long in _LONG_NUMBERS):
        try:
            value = json.loads(raw, parse_constant=_refuse_constant, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError.at("$", f"not valid JSON: {error}") from None
    return value


def dumps(value: Any) -> bytes:
    """Write ``value`` compactly. Integers beyond 64 bits are written in full."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
        ).encode()


def _refuse_depth(raw: bytes, max_depth: int) -> None:
    if raw.count(b"[") + raw.count(b"{") <= max_depth:
        return
    depth = 0
    for token in _BRACKETS.finditer(raw):
        first = raw[token.start()]
        if first in b"[{":
            depth += 1
            if depth > max_depth:
                raise InvalidInputError.at("$", f"nested deeper than {max_depth} levels")
        elif first in b"]}":
            depth -= 1


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise ValueError(f"the number {text} is out of range")
    return value
