"""How an answer's head is written down."""

import time
from collections.abc import Iterable
from email.utils import format_datetime
from http import HTTPStatus

from econeura_daemon.core.clock import Clock
from econeura_daemon.server.asgi import Header

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}

BODILESS = frozenset((204, 304))
"""Answers that have no body, whatever the headers say (RFC 9112 section 6.3)."""


class BadResponseError(Exception):
    """The application answers with what cannot be written down."""


class DateLine:
    """The Date header, made once a second (RFC 9110 section 6.6.1)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = float("-inf")
        self._line = b""

    def __call__(self) -> bytes:
        """Return the line."""
        moment = time.monotonic()
        if moment >= self._until:
            now = self._clock.now()
            self._line = (
                b"date: " + format_datetime(now.replace(microsecond=0), usegmt=True).encode() + b"\r\n"
            )
            self._until = moment + 1 - now.microsecond / 1e6
        return self._line


def status_line(status: int) -> bytes:
    """Return the first line."""
    known = _STATUS_LINES.get(status)
    if known is not None:
        return known
    if not 100 <= status <= 999:
        raise BadResponseError(f"{status} is no status")
    return b"HTTP/1.1 %d \r\n" % status


_starts: dict[tuple[int | Header, ...], bytes] = {}
_MEMORY = 128
"""Beginnings of answers that are remembered: hot routes say the same few headers again and again."""
_TEXT = 512
"""The longest that is."""


def write_answer(
    status: int, date: bytes, headers: Iterable[Header], request_id: str, body: bytes, *, keeps: bool
) -> bytes:
    """Return a whole answer. Raises as `write_head` does."""
    key: tuple[int | Header, ...] = (status, *headers)
    start = _starts.get(key)
    if start is None:
        start = write_head(status, b"", headers, b"").removesuffix(b"\r\n")
        if len(start) <= _TEXT:
            if len(_starts) >= _MEMORY:
                _starts.clear()
            _starts[key] = start
    last = b"" if keeps else b"connection: close\r\n"
    if status in BODILESS:
        return b"%b%bx-request-id: %b\r\n%b\r\n" % (start, date, request_id.encode(), last)
    return b"%b%bx-request-id: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
        start,
        date,
        request_id.encode(),
        len(body),
        last,
        body,
    )


def write_head(status: int, date: bytes, headers: Iterable[Header], last: bytes) -> bytes:
    """Return a head; ``last``: what the connection adds, lines ended by CRLF.

    Raises `BadResponseError` for a header that would be read as something else.
    """
    lines = [b"%b: %b\r\n" % pair for pair in headers]
    text = b"".join(lines)
    count = len(lines)
    if text.count(b"\n") != count or text.count(b"\r") != count or b"\0" in text:
        raise BadResponseError("a header of the answer holds CR, LF or NUL")
    return b"%b%b%b%b\r\n" % (status_line(status), date, text, last)
