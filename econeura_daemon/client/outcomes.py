"""What an attempt says, read out of its answer or of what it raised. Pure."""

from email.utils import parsedate_to_datetime
from math import inf

import httpx

from econeura_daemon.client.calls import Sent
from econeura_daemon.core.errors import EgressRefusedError
from econeura_daemon.primitives import Sample, Verdict
from econeura_daemon.resilience import End, Outcome

_ENDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], End | None], ...] = (
    ((httpx.ConnectError, httpx.ConnectTimeout, EgressRefusedError), End.UNCONNECTED),
    (httpx.PoolTimeout, End.REFUSED_HERE),
    (httpx.LocalProtocolError, None),
    (httpx.TimeoutException, End.TIMED_OUT),
)
"""The first that fits; `End.RESET` for any other."""


def end_of(error: httpx.TransportError | EgressRefusedError) -> End | None:
    """Return how an attempt ended that raised; None: it could not be made, whoever is asked."""
    for kinds, end in _ENDS:
        if isinstance(error, kinds):
            return end
    return End.RESET


def retry_after(sent: Sent) -> float | None:
    """Return the wait that ``Retry-After`` asks for, in seconds; None for junk (RFC 9110 10.2.3).

    A date is taken by the answer's own ``Date``, so clocks that differ do no harm.
    """
    asked, date = _first(sent, b"retry-after"), _first(sent, b"date")
    if asked.isdigit():
        return float(asked) if len(asked) < 10 else inf
    try:
        until, now = (parsedate_to_datetime(one.decode("latin-1")) for one in (asked, date))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _first(sent: Sent, wanted: bytes) -> bytes:
    return next((value for name, value in sent.headers if name.lower() == wanted), b"")


def sample_of(outcome: Outcome) -> Sample:
    """Return what an outcome says about how many calls at once the instance takes."""
    if outcome.is_overload:
        return Sample.DROP
    # An instance that says that there is no such thing had room for the question.
    is_answer = outcome.end is End.ANSWERED and outcome.verdict is not Verdict.FAILURE
    return Sample.SUCCESS if is_answer else Sample.IGNORED
