"""How many retries a service's calls may make altogether, so that retries never become the load.

Two rules, both from policies that are known to end retry storms: retries are a part of the calls of the last
seconds (Finagle's and Linkerd's budget), and of the calls under way (Envoy's ``retry_budget``). The first bounds
the amplification, the second acts before the first has seen anything: when everything hangs at once.
"""

import attrs

from econeura_daemon.core.validators import at_least, between
from econeura_daemon.resilience.refusal import Refusal
from econeura_daemon.resilience.window import Window


@attrs.frozen(kw_only=True)
class BudgetPolicy:
    """How many retries there may be."""

    ratio: float = attrs.field(default=0.1, validator=at_least(0))
    """Retries of the window, as a part of its calls; Finagle's default is 0.2, Linkerd's too."""
    reserve: int = attrs.field(default=30, validator=at_least(0))
    """Retries of the window that there may be beyond that: a service that is seldom called may retry too."""
    window: float = attrs.field(default=10.0, validator=at_least(0.001))
    """Seconds."""
    active_ratio: float = attrs.field(default=0.2, validator=between(0, 1))
    """Retries under way, as a part of the calls under way (Envoy: ``budget_percent`` 20)."""
    min_active: int = attrs.field(default=3, validator=at_least(0))
    """Retries under way that there may be always (Envoy: ``min_retry_concurrency`` 3)."""


class Budget:
    """Counts calls and retries, and says whether one more retry fits."""

    __slots__ = ("_window", "active", "in_flight", "policy")

    def __init__(self, policy: BudgetPolicy | None = None) -> None:
        self.policy = policy or BudgetPolicy()
        self._window = Window(self.policy.window)
        self.in_flight = 0
        """Calls under way, however many attempts each of them makes."""
        self.active = 0
        """Retries under way."""

    def counts(self, now: float) -> tuple[int, int]:
        """Return how many calls and how many retries began within the window."""
        self._window.turn(now)
        return self._window.all, self._window.part

    def begin(self, now: float) -> None:
        """A call begins."""
        self.in_flight += 1
        self._window.count(now)

    def end(self) -> None:
        """A call ended, with its last attempt."""
        self.in_flight -= 1

    def refusal(self, now: float) -> Refusal | None:
        """Return why another retry would be refused, None if it would not."""
        policy = self.policy
        calls, retries = self.counts(now)
        if retries + 1 > policy.ratio * calls + policy.reserve:
            return Refusal(
                f"{retries} retries of {calls} calls within {policy.window:g} s spent the retry budget",
                now + policy.window,  # at the latest, if nobody retries meanwhile
            )
        if self.active + 1 > max(policy.min_active, policy.active_ratio * self.in_flight):
            return Refusal(f"{self.active} retries are under way among {self.in_flight} calls")
        return None

    def begin_retry(self, now: float) -> Refusal | None:
        """A retry begins, unless it is refused."""
        refusal = self.refusal(now)
        if refusal is None:
            self.active += 1
            self._window.count(now, 0, 1)
        return refusal

    def end_retry(self) -> None:
        """A retry ended."""
        self.active -= 1
