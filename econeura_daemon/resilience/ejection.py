"""Taking out an instance that fails more often than its peers do, for a while.

After Envoy's outlier detection by success rate, with one change: the mean and the deviation are those of the
*other* instances. An outlier among n is at most sqrt(n - 1) deviations below a mean that it is part of itself,
so with 1.9 of them no instance of three or four could ever be ejected. And the deviation counts for 5 points at
least: ten instances that are all as good as perfect have none, and a single failure would be an outlier.
"""

from collections.abc import Hashable, Iterable
from math import floor
from statistics import fmean, pstdev

import attrs

from econeura_daemon.core.validators import at_least, between
from econeura_daemon.resilience.outcomes import Verdict
from econeura_daemon.resilience.refusal import Refusal


@attrs.frozen(kw_only=True)
class EjectionPolicy:
    """When an instance is an outlier, and for how long it stays out. Durations in seconds."""

    interval: float = attrs.field(default=10.0, validator=at_least(0.1))
    """Between two sweeps."""
    deviations: float = attrs.field(default=1.9, validator=at_least(0))
    """How many standard deviations below the mean is an outlier (Envoy: ``success_rate_stdev_factor`` 1900)."""
    min_deviation: float = attrs.field(default=0.05, validator=between(0, 1))
    """What a smaller standard deviation counts for."""
    min_hosts: int = attrs.field(default=3, validator=at_least(2))
    """So many instances need `min_requests` for there to be a comparison."""
    min_requests: int = attrs.field(default=20, validator=at_least(1))
    """An instance with fewer calls since the last sweep is not judged, nor compared with."""
    base: float = attrs.field(default=30.0, validator=at_least(0))
    """The first ejection; the n-th lasts n times as long."""
    longest: float = attrs.field(default=300.0, validator=at_least(0))
    max_part: float = attrs.field(default=0.5, validator=between(0, 1))
    """At most this part of all instances is out at once."""


@attrs.frozen
class Ejection:
    """An instance is out until ``until``."""

    key: Hashable
    until: float
    reason: str


@attrs.define(eq=False)
class _Record:
    requests: int = 0
    successes: int = 0
    times: int = 0
    """How many ejections it has not made up for yet: one less with each clean sweep."""
    ejection: Ejection | None = None


class Ejector:
    """Counts outcomes of real calls; a sweep every `EjectionPolicy.interval` judges them."""

    def __init__(self, policy: EjectionPolicy | None = None) -> None:
        self.policy = policy or EjectionPolicy()
        self._records: dict[Hashable, _Record] = {}

    def record(self, key: Hashable, verdict: Verdict) -> None:
        """A call to the instance ended."""
        if verdict is Verdict.NEUTRAL:
            return
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = _Record()
        record.requests += 1
        if verdict is Verdict.SUCCESS:
            record.successes += 1

    def refusal(self, key: Hashable, now: float) -> Refusal | None:
        """Return why the instance is passed over, None if it is not ejected."""
        record = self._records.get(key)
        if record is None or record.ejection is None or now >= record.ejection.until:
            return None
        return Refusal(record.ejection.reason, record.ejection.until)

    def returned(self, now: float) -> list[Ejection]:
        """Return the ejections that have come to their end, each once."""
        ended = []
        for record in self._records.values():
            if record.ejection is not None and now >= record.ejection.until:
                ended.append(record.ejection)
                record.ejection = None
        return ended

    def sweep(self, usable: Iterable[Hashable], total: int, now: float) -> list[Ejection]:
        """Judge what was recorded since the last sweep, and begin to count anew; return who is ejected now.

        ``usable``: who may be called at present, so not those that are ejected, unhealthy or refused by their
        breaker: the last of these is never ejected. ``total``: how many instances there are; call `forget` for
        one that left.
        """
        keys = list(usable)
        judged = {key: record for key in keys if (record := self._enough(key)) is not None}
        outliers = self._outliers(judged)
        room = min(floor(self.policy.max_part * total) - self._out(now), len(keys) - 1)
        ejected = [self._eject(key, reason, now) for key, reason in outliers[: max(0, room)]]
        out = {ejection.key for ejection in ejected}
        for key, record in self._records.items():
            if key not in out and (record.ejection is None or now >= record.ejection.until):
                record.times = max(0, record.times - 1)
            record.requests = record.successes = 0
        return ejected

    def forget(self, key: Hashable) -> None:
        """The instance left."""
        self._records.pop(key, None)

    def _enough(self, key: Hashable) -> _Record | None:
        record = self._records.get(key)
        return record if record is not None and record.requests >= self.policy.min_requests else None

    def _out(self, now: float) -> int:
        return sum(
            record.ejection is not None and now < record.ejection.until for record in self._records.values()
        )

    def _outliers(self, judged: dict[Hashable, _Record]) -> list[tuple[Hashable, str]]:
        """Return who is an outlier and why, the worst first."""
        policy = self.policy
        if len(judged) < policy.min_hosts:
            return []
        rates = {key: record.successes / record.requests for key, record in judged.items()}
        found = []
        for key in sorted(rates, key=lambda each: rates[each]):
            peers = [rate for other, rate in rates.items() if other != key]
            mean = fmean(peers)
            bound = mean - policy.deviations * max(pstdev(peers, mean), policy.min_deviation)
            if rates[key] < bound:
                found.append((key, f"{rates[key]:.0%} of its calls succeeded, of its peers' {mean:.0%}"))
        return found

    def _eject(self, key: Hashable, reason: str, now: float) -> Ejection:
        record = self._records[key]
        record.times += 1
        lasts = min(self.policy.base * record.times, self.policy.longest)
        record.ejection = Ejection(key, now + lasts, reason)
        return record.ejection
