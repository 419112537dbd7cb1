"""What is read out of a receiver's answer, whatever it holds: headers to keep, and ``Retry-After``."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MAX_READ = 64 * 1024
"""Bytes of an answer's body that are read; a receiver that sends more has answered all the same."""
MAX_KEPT = 4 * 1024
"""Bytes of it that are kept."""
MAX_KEPT_HEADERS = 64
MAX_KEPT_HEADER_BYTES = 8 * 1024
"""Names and values together."""

_MAX_WAIT = timedelta(days=366)
"""A ``Retry-After`` beyond it means as much as one of a year, and an absurd number fits no database."""
_MILLISECOND = timedelta(milliseconds=1)


def kept_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers to keep, names in lower case, repeated ones joined by a comma (RFC 9110 5.3)."""
    kept: dict[str, str] = {}
    left = MAX_KEPT_HEADER_BYTES
    for number, (name, value) in enumerate(raw):
        left -= len(name) + len(value)
        if number == MAX_KEPT_HEADERS or left < 0:
            break
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        kept[key] = f"{kept[key]}, {text}" if key in kept else text
    return kept


def retry_after_ms(value: str, now: datetime) -> int | None:
    """Return the wait that a ``Retry-After`` asks for, seconds or a date (RFC 9110 10.2.3); None for junk."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        wait = timedelta(seconds=int(text)) if len(text) <= 10 else _MAX_WAIT
    else:
        try:
            instant = parsedate_to_datetime(text)
            wait = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - now
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return max(timedelta(0), min(wait, _MAX_WAIT)) // _MILLISECOND
