"""A circuit breaker that is used like a lock."""

from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import final

import attrs
import trio

from econeura_daemon.primitives.errors import BreakerOpenError
from econeura_daemon.primitives.judging import cause_of, judge
from econeura_daemon.resilience.breaker import Breaker, Phase, State
from econeura_daemon.resilience.breaker_policy import BreakerPolicy
from econeura_daemon.resilience.outcomes import Verdict
from econeura_daemon.resilience.refusal import Refusal


@attrs.frozen
class CircuitBreakerStatistics:
    """What a breaker is in, and what led there. Instants are on Trio's clock."""

    state: State
    reason: str
    """What tripped it, or why it is closed."""
    since: float
    """Minus infinity: from the beginning."""
    until: float | None
    """Open: when trials begin. Closed: when all calls are admitted again, after an opening."""
    openings: int
    """Openings in a row without a full recovery."""
    in_flight: int
    """Calls that were admitted and have not ended."""
    trials: int
    """Trials under way, while half-open."""
    successes: int
    """Trials that succeeded, while half-open."""
    failures_in_a_row: int
    calls: int
    """Calls that ended within the window, those that say nothing not counted."""
    failures: int
    """How many of them failed."""


class AdmittedCall:
    """A call that the breaker let through; say by `report` what an exception does not say."""

    __slots__ = ("_cause", "_generation", "_verdict")

    def __init__(self, generation: int) -> None:
        self._generation = generation
        self._verdict: Verdict | None = None
        self._cause = ""

    def report(self, verdict: Verdict, cause: str = "a failure") -> None:
        """Say how the call ended; the last word counts, before any exception.

        ``cause`` says in a few words how it failed, and becomes part of the breaker's reason if it opens.
        """
        self._verdict = verdict
        self._cause = cause


@final
class CircuitBreaker:
    """Lets calls through while whoever they are for is well, and refuses them at once while it is not.

    ::

        async with breaker as call:                       # BreakerOpenError, at once, while it is open
            response = await client.get(url)
            call.report(verdict_of_status(response.status_code), f"answered {response.status_code}")

    Without a `report`, leaving the block normally is a success, and leaving it by an exception is what ``judge``
    says: see `judging.judge`. Nobody waits for a breaker; `acquire` is a checkpoint all the same, also when it
    refuses, so a loop around it cannot keep other tasks from running.

    It follows Trio's clock alone. Use it from one event loop. ``on_change`` is called with each state that the
    breaker enters; it must neither block nor raise. ``rng`` is for the jitter of openings and the ramp.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        name: str = "The circuit breaker",
        judge: Callable[[BaseException], Verdict] = judge,
        on_change: Callable[[Phase], None] | None = None,
        rng: Random | None = None,
    ) -> None:
        self._breaker = Breaker(policy, on_change)
        self._name = name
        self._judge = judge
        self._rng = rng or Random()  # noqa: S311 - jitter is no secret
        self._calls: dict[object, AdmittedCall] = {}

    def __repr__(self) -> str:
        phase = self._breaker.phase
        return (
            f"<{type(self).__module__}.CircuitBreaker at {id(self):#x}, {phase.state.value} ({phase.reason}), "
            f"{len(self._calls)} in flight>"
        )

    @property
    def policy(self) -> BreakerPolicy:
        """By what it decides. It can be set: state and counts stay, an opening lasts as long as it was to last."""
        return self._breaker.policy

    @policy.setter
    def policy(self, policy: BreakerPolicy) -> None:
        self._breaker.follow(policy)

    @property
    def state(self) -> State:
        """The state now."""
        self._breaker.turn(trio.current_time(), self._rng)
        return self._breaker.phase.state

    def refusal(self) -> Refusal | None:
        """Return why a call would be refused now, None if it would not; no call is admitted by asking.

        The ramp after closing admits by chance, so a call may be refused after all.
        """
        return self._breaker.refusal(trio.current_time(), self._rng)

    def hasten(self, until: float) -> None:
        """Let trials begin at ``until``, on Trio's clock, if the breaker is open for longer.

        For whoever sees more than one breaker: when those of all alternatives are open, callers have nowhere else to
        go, and waiting for long spares nobody anything. An opening cut short does not lengthen the next one.
        """
        self._breaker.hasten(until)

    @trio.lowlevel.enable_ki_protection
    def acquire_nowait(self) -> AdmittedCall:
        """Admit a call of the current task. Raises `BreakerOpenError`.

        Raises RuntimeError if the task has one under way already; see `acquire_on_behalf_of`.
        """
        return self.acquire_on_behalf_of_nowait(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    def acquire_on_behalf_of_nowait(self, borrower: object) -> AdmittedCall:
        """Admit a call of ``borrower``, which is any hashable object. Raises as `acquire_nowait` does."""
        if borrower in self._calls:
            raise RuntimeError(f"{borrower!r} has a call under way through this breaker already")
        breaker = self._breaker
        if breaker.is_plain:  # most calls by far; they need not know the time
            generation = breaker.phase.generation
        else:
            admitted = breaker.admit(trio.current_time(), self._rng)
            if isinstance(admitted, Refusal):
                what = f"{self._name} is {breaker.phase.state.value}"
                raise BreakerOpenError(what, admitted.reason, admitted.until)
            generation = admitted
        call = self._calls[borrower] = AdmittedCall(generation)
        return call

    @trio.lowlevel.enable_ki_protection
    async def acquire(self) -> AdmittedCall:
        """Admit a call of the current task; a checkpoint. Raises as `acquire_nowait` does."""
        await trio.lowlevel.checkpoint()
        return self.acquire_on_behalf_of_nowait(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    async def acquire_on_behalf_of(self, borrower: object) -> AdmittedCall:
        """Admit a call of ``borrower``; a checkpoint. Raises as `acquire_nowait` does."""
        await trio.lowlevel.checkpoint()
        return self.acquire_on_behalf_of_nowait(borrower)

    @trio.lowlevel.enable_ki_protection
    def release(self, verdict: Verdict = Verdict.SUCCESS, cause: str = "a failure") -> None:
        """Report how the current task's call ended; what was reported before counts more.

        Raises RuntimeError if the task has none under way.
        """
        self.release_on_behalf_of(trio.lowlevel.current_task(), verdict, cause)

    @trio.lowlevel.enable_ki_protection
    def release_on_behalf_of(
        self, borrower: object, verdict: Verdict = Verdict.SUCCESS, cause: str = "a failure"
    ) -> None:
        """Report how the call of ``borrower`` ended; see `release`."""
        call = self._calls.pop(borrower, None)
        if call is None:
            raise RuntimeError(f"{borrower!r} has no call under way through this breaker")
        if call._verdict is not None:  # noqa: SLF001 - the two classes are one thing
            verdict, cause = call._verdict, call._cause  # noqa: SLF001
        self._breaker.record(call._generation, verdict, trio.current_time(), self._rng, cause)  # noqa: SLF001

    @trio.lowlevel.enable_ki_protection
    def retract(self, call: AdmittedCall, cause: str = "a failure") -> None:
        """Report that a call which has been released failed after all: its answer broke off in the middle.

        Says nothing if the breaker has entered another state since the call was admitted.
        """
        self._breaker.retract(call._generation, trio.current_time(), self._rng, cause)  # noqa: SLF001

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> AdmittedCall:
        await trio.lowlevel.checkpoint()
        return self.acquire_on_behalf_of_nowait(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.release()
            return
        verdict = Verdict.NEUTRAL
        try:
            verdict = self._judge(error)
        finally:  # whatever the caller's function does, the permit comes back
            self.release(verdict, cause_of(error))

    def statistics(self) -> CircuitBreakerStatistics:
        """Return what the breaker is in now, and why."""
        now, breaker = trio.current_time(), self._breaker
        breaker.turn(now, self._rng)
        calls, failures = breaker.counts(now)
        phase = breaker.phase
        return CircuitBreakerStatistics(
            state=phase.state,
            reason=phase.reason,
            since=phase.since,
            until=phase.until,
            openings=phase.openings,
            in_flight=len(self._calls),
            trials=breaker.trials,
            successes=breaker.successes,
            failures_in_a_row=breaker.failures_in_a_row,
            calls=calls,
            failures=failures,
        )
