"""A token bucket: a rate on the long run, a burst at once.

One number is kept, the *theoretical arrival time* (the generic cell rate algorithm, ITU-T I.371): the instant at
which the bucket would be full again. Nothing ticks, and nothing adds up rounding errors.
"""

from math import ulp


class TokenBucket:
    """Gives out ``rate`` tokens a second, and ``burst`` at once after a rest. Full at the start."""

    __slots__ = ("_full_at", "burst", "rate")

    def __init__(self, rate: float, burst: float = 1.0) -> None:
        if not (rate > 0 and burst >= 1):
            raise ValueError(f"expected rate > 0 and burst >= 1, got {rate} and {burst}")
        self.rate = rate
        self.burst = burst
        self._full_at = float("-inf")

    def tokens(self, now: float) -> float:
        """Return how many tokens there are, up to ``burst``."""
        return min(self.burst, self.burst - (self._full_at - now) * self.rate)

    def ready_at(self, now: float, tokens: float = 1.0) -> float:
        """Return when so many tokens can be taken, if nobody else takes any: ``now`` or later.

        Raises ValueError if there are never so many at once.
        """
        if not 0 < tokens <= self.burst:
            raise ValueError(f"expected tokens > 0 and at most the burst of {self.burst:g}, got {tokens:g}")
        ready = self._full_at - (self.burst - tokens) / self.rate
        # Within what rounding makes of it, now is good enough: who slept until `ready` must not sleep again.
        return now if ready <= now + 4 * ulp(now) else ready

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Take so many tokens, or none if there are not so many."""
        if self.ready_at(now, tokens) > now:
            return False
        self._full_at = max(self._full_at, now) + tokens / self.rate
        return True
