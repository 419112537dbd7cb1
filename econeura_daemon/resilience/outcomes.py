"""How a call ended, and what that says about the instance that was called."""

import enum
from functools import lru_cache

import attrs


class Verdict(enum.Enum):
    """What a finished call says about whoever was called."""

    SUCCESS = "success"
    FAILURE = "failure"
    RATE_ONLY = "rate only"
    """Counts as a failure in the rate of failures, but not in a row of them: 429 is a busy instance's answer."""
    NEUTRAL = "neutral"
    """Says nothing: the caller's cancellation, a 404, a refusal of our own."""


class End(enum.Enum):
    """How an attempt to call ended."""

    ANSWERED = "answered"
    UNRESOLVED = "name not resolved"
    UNCONNECTED = "no connection"
    """Refused, unreachable, or timed out while connecting."""
    TLS = "TLS handshake failed"
    UNSENT = "connection lost before anything was written"
    RESET = "connection lost"
    TIMED_OUT = "timed out"
    """By a timeout of ours, after something was written."""
    OUT_OF_TIME = "no time was left"
    """By the caller's own deadline, or by ours when waits and other attempts had left it too little of that."""
    CANCELLED = "cancelled by the caller"
    REFUSED_HERE = "refused by a limit or breaker of ours"


_ANSWERS = {500: Verdict.FAILURE, 502: Verdict.FAILURE, 503: Verdict.FAILURE, 504: Verdict.FAILURE}
_ANSWERS[429] = Verdict.RATE_ONLY
_NO_ANSWERS = {
    End.UNRESOLVED: Verdict.FAILURE,
    End.UNCONNECTED: Verdict.FAILURE,
    End.TLS: Verdict.FAILURE,
    End.UNSENT: Verdict.FAILURE,
    End.RESET: Verdict.FAILURE,
    End.TIMED_OUT: Verdict.FAILURE,
    End.OUT_OF_TIME: Verdict.NEUTRAL,
    End.CANCELLED: Verdict.NEUTRAL,
    End.REFUSED_HERE: Verdict.NEUTRAL,
}
_OVERLOAD = frozenset({429, 503, 504})
_UNTOUCHED = frozenset({End.UNRESOLVED, End.UNCONNECTED, End.TLS, End.UNSENT, End.REFUSED_HERE})


def verdict_of_status(status: int) -> Verdict:
    """Return what an answer's HTTP status says.

    500, 502, 503 and 504 are failures and 429 counts in the rate. Every other 4xx and 5xx is about the request
    (501 and 505 too), not about the instance's health: neutral.
    """
    if status < 400:
        return Verdict.SUCCESS
    return _ANSWERS.get(status, Verdict.NEUTRAL)


@attrs.frozen
class Outcome:
    """How one attempt ended."""

    end: End
    status: int | None = None
    """The HTTP status, if it was answered."""
    retry_after: float | None = None
    """Seconds that the answer asks to wait (``Retry-After``)."""
    # Each step of a call asks again, so they are found out once.
    verdict: Verdict = attrs.field(init=False, eq=False, repr=False)
    """What it says about the instance."""
    is_overload: bool = attrs.field(init=False, eq=False, repr=False)
    """Whether it asks for fewer calls at once: a drop, in the terms of an adaptive limit."""

    @verdict.default
    def _find_verdict(self) -> Verdict:
        if self.status is None:
            return _NO_ANSWERS.get(self.end, Verdict.NEUTRAL)
        return verdict_of_status(self.status)

    @is_overload.default
    def _find_overload(self) -> bool:
        return self.end is End.TIMED_OUT or self.status in _OVERLOAD

    def __attrs_post_init__(self) -> None:
        if (self.end is End.ANSWERED) != (self.status is not None):
            raise ValueError(f"an answer, and nothing else, has a status; got {self.end} and {self.status}")

    @property
    def is_untouched(self) -> bool:
        """Whether the instance certainly saw nothing of the request, so that any method may be tried again."""
        return self.end in _UNTOUCHED

    def __str__(self) -> str:
        return self.end.value if self.status is None else f"{self.end.value} {self.status}"


@lru_cache(maxsize=1024)
def answered(status: int, retry_after: float | None = None) -> Outcome:
    """Return the outcome of an attempt that was answered: there are few different ones."""
    return Outcome(End.ANSWERED, status, retry_after)
