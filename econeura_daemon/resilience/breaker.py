"""A circuit breaker as a state machine: calls ask to be admitted and report what became of them.

             5 failures in a row, or >= 50 % of >= 20 calls in 10 s
    CLOSED ---------------------------------------------------------> OPEN
      ^                                                             |   ^
      | 3 successes                              60 s * 2^k +- 10 % |   | a failure, or trials
      |                                                             v   | that bring no verdict
      +---------------------------------------------------------- HALF-OPEN (3 trials)

Every change of state begins a new *generation*. An admission carries its own, and a report from an older one is
dropped: what was called before the breaker opened says nothing about the instance as it is now.

A trial that says nothing (its caller went away, it was answered 404) gives its permit back. Trials that are
lost, or of which one after the other is cancelled because the instance hangs, would keep a breaker half-open for
ever; so the time during which a trial is under way and no verdict comes is summed up, and beyond
``trial_patience`` the breaker opens again. An idle half-open breaker waits: nothing is stuck.

After closing, calls are admitted with a probability that rises over ``ramp`` seconds, so that an instance that
just came back is not run over by everybody who waited. An opening before the ramp is over counts as a further
one in a row (k grows), so that an instance which only survives three trials at a time is left alone for longer.

``now`` is in seconds of a monotonic clock. Nothing here awaits or reads a clock.
"""

import enum
from collections.abc import Callable
from math import inf
from random import Random

import attrs

from econeura_daemon.resilience.breaker_policy import BreakerPolicy
from econeura_daemon.resilience.outcomes import Verdict
from econeura_daemon.resilience.refusal import Refusal
from econeura_daemon.resilience.slow_start import share
from econeura_daemon.resilience.window import Window


class State(enum.Enum):
    """Closed lets calls through, open refuses them, half-open admits trials."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@attrs.frozen
class Phase:
    """What a breaker is in, since when, until when and why."""

    state: State
    generation: int
    since: float
    """Minus infinity: from the beginning."""
    until: float | None
    """Open: when trials begin. Closed: when the ramp ends, if there is one."""
    reason: str
    """What tripped it, if it is open or half-open; else why it is closed."""
    openings: int
    """Openings in a row, without a full recovery between them; the k-th lasts ``open_for * 2^(k - 1)``."""


class Breaker:
    """Decides about calls to one instance. All methods take ``now``; those that roll dice take ``rng``."""

    __slots__ = (
        "_in_a_row", "_on_change", "_successes", "_trials", "_trying_since", "_unjudged", "_window",
        "is_plain", "phase", "policy",
    )  # fmt: skip

    def __init__(
        self, policy: BreakerPolicy | None = None, on_change: Callable[[Phase], None] | None = None
    ) -> None:
        """``on_change`` is called with each phase that the breaker enters after the first."""
        self.policy = policy or BreakerPolicy()
        self._on_change = on_change
        self._window = Window(self.policy.window, self.policy.buckets)
        self._forget()
        self.phase = Phase(State.CLOSED, 0, -inf, None, "it never opened", 0)
        self.is_plain = True
        """Whether it is closed and has recovered: it admits everybody, into the phase's generation."""

    def follow(self, policy: BreakerPolicy) -> None:
        """Decide by another policy from now on; state and counts stay, an opening lasts as long as it was to last."""
        if (policy.window, policy.buckets) != (self.policy.window, self.policy.buckets):
            self._window = Window(policy.window, policy.buckets)
        self.policy = policy

    @property
    def trials(self) -> int:
        """Trials under way; 0 unless half-open."""
        return self._trials

    @property
    def successes(self) -> int:
        """Trials that succeeded since the breaker is half-open."""
        return self._successes

    @property
    def failures_in_a_row(self) -> int:
        """Failures since the last success, while closed."""
        return self._in_a_row

    def counts(self, now: float) -> tuple[int, int]:
        """Return how many calls of the window ended with a verdict, and how many of them failed."""
        self._window.turn(now)
        return self._window.all, self._window.part

    def admit(self, now: float, rng: Random) -> int | Refusal:
        """Admit a call, by the generation that it is to report to; or refuse it.

        Who is admitted must `record`, whatever happens to the call.
        """
        if self.is_plain:
            return self.phase.generation
        refusal = self.refusal(now, rng)
        if refusal is None and self.phase.state is State.CLOSED:
            refusal = self._ramp(now, rng)
        if refusal is not None:
            return refusal
        if self.phase.state is State.HALF_OPEN:
            if self._trials == 0:
                self._trying_since = now
            self._trials += 1
        return self.phase.generation

    def refusal(self, now: float, rng: Random) -> Refusal | None:
        """Return why a call would be refused now, admitting none; the ramp's dice are left to `admit`."""
        if self.is_plain:
            return None
        self.turn(now, rng)
        phase = self.phase
        if phase.state is State.OPEN:
            return Refusal(phase.reason, phase.until)
        if phase.state is State.HALF_OPEN and not self._has_permit():
            return Refusal(f"trials are under way; it opened because: {phase.reason}", self._patience_ends())
        return None

    def record(
        self, generation: int, verdict: Verdict, now: float, rng: Random, cause: str = "a failure"
    ) -> None:
        """Report what became of a call that was admitted into ``generation``.

        ``cause`` says in a few words how it failed; it becomes part of the reason, if the breaker opens.
        """
        if not self.is_plain:
            self.turn(now, rng)  # a verdict that comes after the patience has ended is none
        if generation != self.phase.generation:
            return
        if self.phase.state is State.CLOSED:
            if verdict is Verdict.SUCCESS:
                self._in_a_row = 0
                self._window.count(now)
            elif verdict is not Verdict.NEUTRAL:
                self._failed(verdict, now, rng, cause)
        else:
            self._tried(verdict, now, rng, cause)

    def retract(self, generation: int, now: float, rng: Random, cause: str) -> None:
        """A call that was recorded already failed after all: its answer broke off in the middle."""
        if not self.is_plain:
            self.turn(now, rng)
        if generation != self.phase.generation:
            return
        if self.phase.state is State.CLOSED:
            self._failed(Verdict.FAILURE, now, rng, cause)
        else:
            self._open(now, rng, f"a trial failed: {cause}")

    def turn(self, now: float, rng: Random) -> None:
        """Do what the passing of time alone does: an open breaker becomes half-open, and so on."""
        while not self.is_plain:
            phase = self.phase
            if phase.until is not None and now >= phase.until:
                if phase.state is State.OPEN:
                    self._half_open(phase.until)
                else:
                    self.phase = attrs.evolve(phase, until=None, reason="recovered", openings=0)
                    self.is_plain = True
            elif phase.state is State.HALF_OPEN and now >= (ends := self._patience_ends()):
                patience = self.policy.trial_patience
                self._open(ends, rng, f"trials brought no verdict within {patience:g} s")
            else:
                return

    def hasten(self, until: float) -> None:
        """Let trials begin at ``until``, if it is open for longer. Such an opening does not lengthen the next one."""
        phase = self.phase
        if phase.state is State.OPEN and phase.until is not None and phase.until > until:
            self.phase = attrs.evolve(phase, until=until, openings=max(0, phase.openings - 1))

    def _ramp(self, now: float, rng: Random) -> Refusal | None:
        phase = self.phase
        if not self.policy.is_shedding or phase.until is None:
            return None
        if rng.random() < share(now - phase.since, self.policy.ramp):
            return None
        return Refusal("it has just closed and admits only a part of all calls", phase.until)

    def _failed(self, verdict: Verdict, now: float, rng: Random, cause: str) -> None:
        policy = self.policy
        self._window.count(now, 1, 1)
        if verdict is Verdict.FAILURE:
            self._in_a_row += 1
            if policy.failures_in_a_row is not None and self._in_a_row >= policy.failures_in_a_row:
                self._open(now, rng, f"{self._in_a_row} failures in a row, the last: {cause}")
                return
        calls, failed = self._window.all, self._window.part
        rate = policy.failure_rate
        if rate is not None and calls >= policy.min_calls and failed >= rate * calls:
            self._open(
                now, rng, f"{failed} of {calls} calls failed within {policy.window:g} s, the last: {cause}"
            )

    def _tried(self, verdict: Verdict, now: float, rng: Random, cause: str) -> None:
        if verdict is Verdict.FAILURE:
            self._open(now, rng, f"a trial failed: {cause}")
            return
        if verdict is Verdict.SUCCESS:
            self._successes += 1
            if self._successes >= self.policy.successes:
                self._close(now)
                return
            self._unjudged = 0.0
        else:
            self._unjudged += now - self._trying_since
        self._trying_since = now
        self._trials -= 1

    def _has_permit(self) -> bool:
        return self._trials < self.policy.trials and self._trials + self._successes < self.policy.successes

    def _patience_ends(self) -> float:
        if self._trials == 0:
            return inf
        return self._trying_since + self.policy.trial_patience - self._unjudged

    def _open(self, now: float, rng: Random, reason: str) -> None:
        policy, openings = self.policy, self.phase.openings + 1
        # The exponent is bounded, or a breaker that never recovers would overflow after years.
        lasts = min(policy.open_for * 2.0 ** min(openings - 1, 64), policy.max_open_for)
        until = now + lasts * rng.uniform(1 - policy.jitter, 1 + policy.jitter)
        self._enter(State.OPEN, now, until, reason, openings)

    def _half_open(self, now: float) -> None:
        self._enter(State.HALF_OPEN, now, None, self.phase.reason, self.phase.openings)

    def _close(self, now: float) -> None:
        reason = f"{self.policy.successes} trials succeeded"
        ramp = self.policy.ramp
        self._enter(State.CLOSED, now, now + ramp if ramp > 0 else now, reason, self.phase.openings)

    def _enter(self, state: State, now: float, until: float | None, reason: str, openings: int) -> None:
        self._forget()
        self.is_plain = False
        self.phase = Phase(state, self.phase.generation + 1, now, until, reason, openings)
        if self._on_change is not None:
            self._on_change(self.phase)

    def _forget(self) -> None:
        self._window.clear()
        self._in_a_row = 0
        self._trials = 0
        self._successes = 0
        self._trying_since = 0.0
        self._unjudged = 0.0
