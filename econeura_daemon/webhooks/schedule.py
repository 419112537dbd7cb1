"""What follows an attempt: delivered, tried again at an instant, or given up. Now and rng are arguments."""

from random import Random

import attrs

from econeura_daemon.core.settings import DAY, HOUR, MINUTE, SECOND, RetrySettings
from econeura_daemon.webhooks.model import AttemptOutcome, RetryPolicy

STANDARD_SCHEDULE = (
    5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR,
)  # fmt: skip
"""Milliseconds from a failed attempt to the next (Standard Webhooks, "Deliverability and reliability")."""

JITTER = 0.2
"""Each wait is this much longer or shorter, so that what failed together does not come back together."""
MAX_RETRY_AFTER = DAY
"""How far ``Retry-After`` may put off an attempt."""
GONE = 410
"""The receiver wants no more: the subscription is disabled (Standard Webhooks)."""


@attrs.frozen
class Delivered:
    """The receiver took it."""


@attrs.frozen
class RetryAt:
    """Another attempt, at ``at_ms`` (milliseconds since the epoch); ``reason``: why this one failed."""

    at_ms: int
    reason: str


@attrs.frozen
class Failed:
    """No further attempt; ``disable``: the subscription wants nothing more at all."""

    reason: str
    disable: bool = False


Step = Delivered | RetryAt | Failed


def default_policy(settings: RetrySettings) -> RetryPolicy:
    """Return the policy of subscriptions that have none of their own.

    A delay makes it exponential; without one the schedule of Standard Webhooks holds, for as many attempts as
    are set.
    """
    retries = (settings.max_attempts or len(STANDARD_SCHEDULE) + 1) - 1
    if settings.delay_ms is None:
        return RetryPolicy(max_retries=retries, schedule=STANDARD_SCHEDULE)
    return RetryPolicy(max_retries=retries, retry_delay=settings.delay_ms)


def next_step(  # noqa: PLR0917 - six facts, none of them an option
    outcome: AttemptOutcome, number: int, max_attempts: int, policy: RetryPolicy, now_ms: int, rng: Random
) -> Step:
    """Return what follows attempt ``number`` (from 1) of ``max_attempts``.

    ``Retry-After`` only lengthens a wait, up to a day: a receiver cannot ask to be hammered.
    """
    if outcome.succeeded:
        return Delivered()
    reason = describe(outcome)
    if outcome.status_code == GONE and not outcome.refused:
        return Failed(reason, disable=True)
    if number >= max_attempts:
        return Failed(reason)
    wait = _jittered(number, policy, rng)
    asked = min(outcome.retry_after_ms or 0, MAX_RETRY_AFTER)
    return RetryAt(now_ms + max(wait, asked), reason)


def describe(outcome: AttemptOutcome) -> str:
    """Return in words how an attempt ended."""
    if outcome.error is not None:
        return outcome.error
    if outcome.status_code is not None and 300 <= outcome.status_code < 400:
        return f"answered {outcome.status_code}; redirects are not followed"
    return f"answered {outcome.status_code}"


def wait_bounds(number: int, policy: RetryPolicy) -> tuple[int, int]:
    """Return the shortest and the longest wait (ms) after attempt ``number``, from 1."""
    if policy.schedule is not None:
        # A schedule shorter than the attempts goes on with its last wait.
        wait: float = policy.schedule[min(number, len(policy.schedule)) - 1] if policy.schedule else 0
        return int(wait * (1 - JITTER)), int(wait * (1 + JITTER))
    try:
        wait = min(policy.retry_delay * policy.backoff_multiplier ** (number - 1), policy.max_delay)
    except OverflowError:
        wait = policy.max_delay
    return int(wait * (1 - JITTER)), int(min(wait * (1 + JITTER), policy.max_delay))


def _jittered(number: int, policy: RetryPolicy, rng: Random) -> int:
    return rng.randint(*wait_bounds(number, policy))
