"""Instants come from a `Clock` that somebody passed in; durations and deadlines from Trio's clock."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Clock(Protocol):
    """Tells the time of day."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        ...


class SystemClock:
    """The machine's own clock: the only place that reads it."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the clock that others take


class ForwardClock:
    """A clock for deadlines that are stored: it follows another one, but never goes back.

    When the wall clock is set back, this one goes on from where it was, at the pace of ``monotonic`` (seconds).
    So what was due stays due, and what is scheduled from now on is not due at once.
    """

    def __init__(self, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._latest = clock.now()
        self._at = monotonic()

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC; never earlier than before."""
        at = self._monotonic()
        self._latest = max(self._clock.now(), self._latest + timedelta(seconds=at - self._at))
        self._at = at
        return self._latest


def to_ms(instant: datetime) -> int:
    """Return milliseconds since the epoch, the form in which instants are stored.

    Rounded down, so that a stored instant is never later than the real one.
    """
    return (instant - EPOCH) // _MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    """Return the aware UTC instant ``milliseconds`` after the epoch."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def format_instant(instant: datetime) -> str:
    """Return RFC 3339 in UTC with milliseconds: ``2026-11-24T02:00:00.000Z``."""
    return format_ms(to_ms(instant))


def format_ms(milliseconds: int) -> str:
    """Return the stored instant in RFC 3339."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_format_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=8)
def _format_second(seconds: int) -> str:
    """Return what all instants of one second share: each event is stamped twice, and thousands come in one."""
    return (EPOCH + timedelta(seconds=seconds)).isoformat()[:-6]


def parse_instant(text: str) -> datetime:
    """Read an RFC 3339 instant; a time zone is required.

    Raises ValueError with a sentence for the person who wrote ``text``.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"expected an RFC 3339 instant such as 2026-11-24T02:00:00.000Z, got {text!r}"
        ) from None
    if instant.tzinfo is None:
        raise ValueError(f"expected a time zone at the end (Z or +01:00), got {text!r}")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"the instant {text!r} is out of range") from None
