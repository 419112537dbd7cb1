"""Query strings, read as strictly as bodies: every flaw at once, nothing unknown, nothing twice."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

import attrs

from econeura_daemon.api.paging import DEFAULT_LIMIT, MAX_CURSOR_LENGTH, MAX_LIMIT, PageOf
from econeura_daemon.core.clock import parse_instant, to_ms
from econeura_daemon.core.errors import Flaw, InvalidInputError
from econeura_daemon.core.phrases import did_you_mean, one_of, shortened

T = TypeVar("T")
D = TypeVar("D")

MAX_QUERY_LENGTH = 8192
_MAX_PARAMETERS = 64
MAX_LOG_CURSOR = 2**63 - 1
"""Cursors of the log are 64-bit integers."""


@attrs.frozen(kw_only=True, eq=False)
class Parameter(Generic[T]):
    """One query parameter: how its text is read, and how the OpenAPI document tells of it."""

    name: str
    read: Callable[[str], Any]
    """Raises ValueError with a sentence for the person who wrote the text."""
    default: T
    schema: Mapping[str, Any]
    doc: str


@attrs.frozen
class Query:
    """The parameters of one request, read."""

    values: Mapping[str, Any]
    texts: Mapping[str, str]
    """As they were given: what a page cursor is bound to."""

    def __getitem__(self, parameter: Parameter[T]) -> T:
        value: T = self.values.get(parameter.name, parameter.default)
        return value

    def page(self, route: str) -> PageOf:
        """Return the list that is asked for: the route, and what was given but the page's place and size."""
        given = ((name, text) for name, text in self.texts.items() if name not in {"cursor", "limit"})
        return PageOf(route, tuple(given))


def parse_query(raw: bytes, parameters: tuple[Parameter[Any], ...]) -> Query:
    """Read a query string. Raises `InvalidInputError` with every flaw; a parameter's path is ``?name``."""
    known = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    flaws = []
    for name, text in _pairs(raw):
        path = f"?{shortened(name)}"
        parameter = known.get(name)
        if parameter is None:
            flaws.append(Flaw(path, f"there is no such parameter here{did_you_mean(name, known)}"))
        elif name in texts:
            flaws.append(Flaw(path, "was given twice"))
        else:
            texts[name] = text
            try:
                values[name] = parameter.read(text)
            except ValueError as error:
                flaws.append(Flaw(path, str(error)))
    if flaws:
        raise InvalidInputError(flaws)
    return Query(values, texts)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    if len(raw) > MAX_QUERY_LENGTH:
        raise InvalidInputError.at("?", f"the query string has more than {MAX_QUERY_LENGTH} bytes")
    try:
        return parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except UnicodeError:
        raise InvalidInputError.at("?", "the query string is not percent-encoded UTF-8") from None
    except ValueError:
        raise InvalidInputError.at("?", f"more than {_MAX_PARAMETERS} parameters") from None


def integer(text: str, low: int, high: int) -> int:
    """Read a decimal integer from ``low`` to ``high``. Raises ValueError."""
    if text.isascii() and text.isdecimal() and len(text) <= len(str(high)) and low <= int(text) <= high:
        return int(text)
    raise ValueError(f"expected an integer from {low} to {high}, got {shortened(text)!r}")


def _limit(text: str) -> int:
    return integer(text, 1, MAX_LIMIT)


def _cursor(text: str) -> str:
    if not text or len(text) > MAX_CURSOR_LENGTH:
        raise ValueError("expected nextCursor of the page before, unchanged")
    return text


def instant(text: str) -> int:
    """Read an RFC 3339 instant as milliseconds since the epoch. Raises ValueError.

    A ``+`` that was not percent-encoded arrives as a space: it is taken for what it was meant to be.
    """
    moment: datetime = parse_instant(shortened(text).replace(" ", "+") if "T" in text else shortened(text))
    return to_ms(moment)


def choice_of(*names: str) -> Callable[[str], str]:
    """Return a reader of one of ``names``."""

    def read(text: str) -> str:
        if text in names:
            return text
        raise ValueError(f"expected {one_of(names)}, got {shortened(text)!r}{did_you_mean(text, names)}")

    return read


LIMIT: Parameter[int] = Parameter(
    name="limit",
    read=_limit,
    default=DEFAULT_LIMIT,
    schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    doc="How many items a page has at most.",
)
CURSOR: Parameter[str | None] = Parameter(
    name="cursor",
    read=_cursor,
    default=None,
    schema={"type": "string", "maxLength": MAX_CURSOR_LENGTH},
    doc="`nextCursor` of the page before; with the same filters.",
)
