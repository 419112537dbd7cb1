"""Whether a failed attempt is followed by another one, and when.

Source of the jitter: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (*full jitter*); of what may be
tried again: RFC 9110, sections 9.2.2 (idempotent methods) and 10.2.3 (``Retry-After``).
"""

from random import Random

import attrs

from econeura_daemon.core.validators import at_least
from econeura_daemon.resilience.outcomes import End, Outcome

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_TRANSIENT = frozenset({429, 502, 503, 504})
_OVER = frozenset({End.CANCELLED, End.OUT_OF_TIME})
_MAX_EXPONENT = 64


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often and how soon. Durations in seconds."""

    retries: int = attrs.field(default=3, validator=at_least(0))
    """Attempts beyond the first, at most."""
    base: float = attrs.field(default=0.1, validator=at_least(0))
    """The longest wait before the first retry; it doubles with each."""
    longest: float = attrs.field(default=5.0, validator=at_least(0))

    def wait(self, retried: int, rng: Random) -> float:
        """Return a wait after the attempt that follows ``retried`` retries: ``U(0, min(longest, base * 2^n))``."""
        return rng.uniform(0.0, min(self.longest, self.base * 2.0 ** min(retried, _MAX_EXPONENT)))


@attrs.frozen
class RetryAt:
    """Another attempt, at ``at`` on the clock of ``now``."""

    at: float


@attrs.frozen
class GiveUp:
    """No further attempt: what the last one brought is the result."""

    reason: str


@attrs.frozen(kw_only=True)
class Request:
    """What of a request decides whether it may be sent twice."""

    method: str
    has_idempotency_key: bool = False
    is_replayable: bool = True
    """Whether its body can be sent again: it has none, is held in memory, or nothing of it was read yet."""

    @property
    def is_idempotent(self) -> bool:
        """Whether an instance that saw it once may see it again."""
        return self.has_idempotency_key or self.method.upper() in IDEMPOTENT


def next_attempt(
    policy: RetryPolicy,
    request: Request,
    outcome: Outcome,
    *,
    retried: int,
    now: float,
    deadline: float,
    rng: Random,
) -> RetryAt | GiveUp:
    """Return what follows an attempt that ended with ``outcome`` after ``retried`` retries.

    ``deadline``, on the clock of ``now``, is the whole call's; no retry begins at it or later. A ``Retry-After``
    that does not fit it ends the call at once: an answer now is worth more than a failure then. Whether the
    budget has room is another question (`budget.Budget`), and a refusal of ours is no attempt: who gets one
    picks again and asks nothing here.
    """
    reason = _forbidden(request, outcome)
    if reason is not None:
        return GiveUp(reason)
    if retried >= policy.retries:
        return GiveUp(f"{retried + 1} attempts were made: {outcome}")
    if outcome.retry_after is not None and now + outcome.retry_after >= deadline:
        return GiveUp(f"{outcome}, to be tried again in {outcome.retry_after:g} s: after the deadline")
    at = now + max(policy.wait(retried, rng), outcome.retry_after or 0.0)
    if at >= deadline:
        return GiveUp(f"{outcome}; the deadline leaves no time for another attempt")
    return RetryAt(at)


def _forbidden(request: Request, outcome: Outcome) -> str | None:
    """Return why the outcome is final for this request, whatever time is left; None if it is not."""
    if not request.is_replayable:
        return f"{outcome}; the body cannot be sent again"
    if outcome.is_untouched:
        return None
    if outcome.end in _OVER or (outcome.status is not None and outcome.status not in _TRANSIENT):
        return str(outcome)
    if not request.is_idempotent:
        return f"{outcome}; {request.method} may have been carried out, and has no idempotency key"
    return None
