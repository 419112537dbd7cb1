"""The verdict of a check: results in a row turn it, a single one does not, but for the very first."""

import attrs

from econeura_daemon.probes.model import Outcome, ProbeResult
from econeura_daemon.registry.model import Check, Verdict

DOUBT_MS = 5_000
"""Between two probes while the verdict is in doubt (Consul and Kubernetes leave it at the interval)."""

_VERDICTS = {
    Outcome.PASS: Verdict.HEALTHY,
    Outcome.WARNING: Verdict.WARNING,
    Outcome.FAIL: Verdict.UNHEALTHY,
}


@attrs.frozen
class Judgement:
    """A verdict and what speaks against it. One that was kept from an earlier registration is settled."""

    verdict: Verdict | None = None
    agreeing: int = 0
    """Results in a row for the verdict, as far as they matter."""
    against: int = 0
    """Results in a row against it."""
    calm: int = 0
    """Passes in a row since the last warning."""

    def observe(self, result: ProbeResult, check: Check) -> tuple["Judgement", str | None]:
        """Return the judgement after a result, and if the verdict changed, why.

        A warning is as good as a pass, and shown until as many passes in a row have come as turn a verdict.
        """
        seen = _VERDICTS[result.outcome]
        if self.verdict is None:
            return Judgement(seen, agreeing=1), _first(result)
        if seen.passes is self.verdict.passes:
            return self._agree(seen, result, check)
        against = self.against + 1
        if against < _needed(seen, check):
            return attrs.evolve(self, agreeing=0, against=against, calm=0), None
        return Judgement(seen, agreeing=against), _in_a_row(against, result)

    def _agree(self, seen: Verdict, result: ProbeResult, check: Check) -> tuple["Judgement", str | None]:
        assert self.verdict is not None
        needed = _needed(seen, check)
        agreed = Judgement(self.verdict, agreeing=min(self.agreeing + 1, needed))
        if seen is Verdict.WARNING and self.verdict is not seen:
            return attrs.evolve(agreed, verdict=seen), f"it passes, with a warning: {result.detail}"
        if seen is self.verdict:
            return agreed, None
        calm = self.calm + 1
        if calm < needed:
            return attrs.evolve(agreed, calm=calm), None
        return attrs.evolve(agreed, verdict=seen), _in_a_row(calm, result)

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
    return check.healthy_after if verdict.passes else check.unhealthy_after


def _first(result: ProbeResult) -> str:
    if result.outcome is Outcome.PASS:
        return f"the first probe passed: {result.detail}"
    return f"the first probe {'warned' if result.passed else 'failed'}: {result.detail}"


def _in_a_row(count: int, result: ProbeResult) -> str:
    noun = "pass" if result.passed else "failure"
    if count != 1:
        noun += "es" if result.passed else "s"
    return f"{count} {noun} in a row: {result.detail}"
