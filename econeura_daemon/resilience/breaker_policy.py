"""The constants of a circuit breaker, with their defaults."""

import attrs

from econeura_daemon.core.validators import at_least, between, optional


@attrs.frozen(kw_only=True)
class BreakerPolicy:
    """When a breaker opens, for how long, and how it closes again. Durations in seconds.

    The defaults are those of resilience4j and Envoy where they agree, else what the daemon's simulations say.
    """

    failures_in_a_row: int | None = attrs.field(default=5, validator=optional(at_least(1)))
    """So many failures one after the other open it (Envoy: ``consecutive_5xx``); None: they do not."""
    failure_rate: float | None = attrs.field(default=0.5, validator=optional(between(0, 1)))
    """This part of the calls in the window opens it (resilience4j: ``failureRateThreshold``); None: it does not."""
    min_calls: int = attrs.field(default=20, validator=at_least(1))
    """The rate counts once so many calls of the window have ended."""
    window: float = attrs.field(default=10.0, validator=at_least(0.001))
    buckets: int = attrs.field(default=10, validator=at_least(1))
    """The window is counted in so many pieces."""
    open_for: float = attrs.field(default=60.0, validator=at_least(0))
    """How long it is open at first; twice as long with each further opening in a row."""
    max_open_for: float = attrs.field(default=600.0, validator=at_least(0))
    jitter: float = attrs.field(default=0.1, validator=between(0, 1))
    """How much longer or shorter an opening may last, as a part of it: what broke together returns apart."""
    trials: int = attrs.field(default=3, validator=at_least(1))
    """Trials at once, while half-open."""
    successes: int = attrs.field(default=3, validator=at_least(1))
    """Trials that must succeed before it closes."""
    timeout: float = attrs.field(default=15.0, validator=at_least(0))
    """How long one call may take; only `trial_patience` depends on it."""
    ramp: float = attrs.field(default=10.0, validator=at_least(0))
    """After closing, the admitted part of all calls rises over this time; 0: all at once."""
    is_shedding: bool = True
    """Whether what the ramp does not admit is refused. Whoever chooses between the breakers of several instances says
    no, and gives the one that came back the lesser part itself: refused by all of them, a call would find nobody.
    """

    @property
    def trial_patience(self) -> float:
        """How long trials may be under way without a verdict before it opens again."""
        return max(30.0, 2 * self.timeout)
