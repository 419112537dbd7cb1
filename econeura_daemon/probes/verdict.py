"""The verdict of a check: results in a row turn it, a single one does not, but for the very first."""

import attrs

from econeura_daemon.probes.model import Outcome, ProbeResult
from econeura_daemon.registry.model import Check, Verdict

DOUBT_MS = 5_000
"""Between two probes while the verdict is in doubt (Consul and Kubernetes leave it at the interval)."""


@attrs.frozen
class Judgement:
    """A verdict and what speaks against it. One that was kept from an earlier registration is settled."""

    verdict: Verdict | None = None
    agreeing: int = 0
    """Results in a row for the verdict, as far as they matter."""
    against: int = 0
    """Results in a row against it."""

    def observe(self, result: ProbeResult, check: Check) -> tuple["Judgement", str | None]:
        """Return the judgement after a result, and if the verdict changed, why."""
        seen = Verdict.HEALTHY if result.passed else Verdict.UNHEALTHY
        if self.verdict is None:
            return Judgement(seen, agreeing=1), _first(result)
        if seen is self.verdict:
            return Judgement(self.verdict, agreeing=min(self.agreeing + 1, _needed(seen, check))), None
        against = self.against + 1
        if against < _needed(seen, check):
            return attrs.evolve(self, agreeing=0, against=against), None
        return Judgement(seen, agreeing=against), _in_a_row(against, result)

    def is_in_doubt(self, check: Check) -> bool:
        """Tell whether the next result is worth having soon."""
        return self.verdict is None or self.against > 0 or self.agreeing < _needed(self.verdict, check)

    def next_in_ms(self, check: Check) -> int:
        """Return after how many milliseconds to probe again, before jitter."""
        return min(check.interval_ms, DOUBT_MS) if self.is_in_doubt(check) else check.interval_ms


def settled(verdict: Verdict | None, check: Check) -> Judgement:
    """Return the judgement of one whose verdict stands already."""
    return Judgement() if verdict is None else Judgement(verdict, agreeing=_needed(verdict, check))


def _needed(verdict: Verdict, check: Check) -> int:
    return check.healthy_after if verdict is Verdict.HEALTHY else check.unhealthy_after


def _first(result: ProbeResult) -> str:
    if result.outcome is Outcome.PASS:
        return f"the first probe passed: {result.detail}"
    return f"the first probe {'warned' if result.passed else 'failed'}: {result.detail}"


def _in_a_row(count: int, result: ProbeResult) -> str:
    noun = "pass" if result.passed else "failure"
    if count != 1:
        noun += "es" if result.passed else "s"
    return f"{count} {noun} in a row: {result.detail}"
