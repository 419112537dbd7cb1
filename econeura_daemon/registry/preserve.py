"""Preserve mode: when many leases run out at once, it is rather our side that does not hear.

Netflix's Eureka calls it self-preservation (https://github.com/Netflix/eureka/wiki/Understanding-Eureka-Peer-to-Peer-Communication);
there it can stick for ever. Here it always ends: after two intervals in which leases ran out no faster than usual, at
the latest after `LONGEST`. Each kept instance is probed, and its probe decides.
"""

import attrs

SHARE = 0.15
"""Of the leases, that run out within one interval: more is many at once. Eureka's renewalPercentThreshold is 0.85."""
LEAST_EXPIRED = 3
LEAST_LEASES = 5
"""Fewer prove nothing."""
NORMAL_INTERVALS = 2
LONGEST = 300.0
"""Seconds."""


@attrs.frozen
class Preserve:
    """The mode as a value; times are seconds by a monotonic clock."""

    interval: float
    """Seconds between two heartbeats."""
    recent: tuple[tuple[float, int], ...] = ()
    """When leases ran out within the last interval, and how many."""
    entered_at: float = float("-inf")
    abnormal_at: float = float("-inf")
    """When too many had run out within an interval, last."""
    cause: str = ""

    def active(self, now: float) -> bool:
        """Tell whether leases that run out are kept."""
        return now < self.ends_at

    @property
    def ends_at(self) -> float:
        """When it ends if nothing more happens."""
        return min(self.abnormal_at + NORMAL_INTERVALS * self.interval, self.latest_end)

    @property
    def latest_end(self) -> float:
        """When it ends whatever happens."""
        return self.entered_at + LONGEST

    def expire(self, now: float, expiring: int, live: int) -> "Preserve":
        """Note that ``expiring`` leases ran out just now, which leaves ``live``."""
        recent = (*self._within(now), (now, expiring))
        count = sum(many for _, many in recent)
        leases = count + live
        noted = attrs.evolve(self, recent=recent)
        if count < LEAST_EXPIRED or leases < LEAST_LEASES or count <= SHARE * leases:
            return noted
        return noted._abnormal(  # noqa: SLF001 - it is one of us
            now, f"{count} of {leases} leases ran out within {self.interval:g} s"
        )

    def stall(self, now: float, seconds: float) -> "Preserve":
        """Note that our own loop stood still for ``seconds``: nobody could be heard."""
        return self._abnormal(now, f"the daemon stood still for {seconds:.1f} s")

    def _within(self, now: float) -> tuple[tuple[float, int], ...]:
        return tuple(one for one in self.recent if one[0] > now - self.interval)

    def _abnormal(self, now: float, cause: str) -> "Preserve":
        if self.active(now):
            return attrs.evolve(self, abnormal_at=now)
        if now - self.abnormal_at < self.interval:
            # It ended because it had lasted long enough, and nothing has become normal since: it stays ended.
            return attrs.evolve(self, abnormal_at=now)
        return attrs.evolve(self, entered_at=now, abnormal_at=now, cause=cause)
