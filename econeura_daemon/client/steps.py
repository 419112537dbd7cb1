"""The steps between a caller and an instance, and the one order in which they stand.

A step is a function of a call (the outer ones) or of a call and the instance that it is for (the inner ones). What a
step holds it gives back when the answer ends, or at once when there is none: a cancellation passes through every one
of them and leaves nothing held.
"""

from collections.abc import Awaitable, Callable, Sequence
from random import Random

import httpx
import trio

from econeura_daemon.client.calls import Answer, Attempt, Call, KeptBody, Sent
from econeura_daemon.client.choosing import Chooser
from econeura_daemon.client.errors import (
    AttemptFailedError,
    CircuitOpenError,
    RequestBodyTooSlowError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from econeura_daemon.client.outcomes import end_of, retry_after, sample_of
from econeura_daemon.client.retrying import Retrying
from econeura_daemon.client.service import InstanceState, Service
from econeura_daemon.core.errors import EgressRefusedError
from econeura_daemon.primitives import (
    BreakerOpenError,
    Sample,
    Verdict,
)
from econeura_daemon.registry.model import Instance
from econeura_daemon.resilience import End, Outcome, answered
from econeura_daemon.wire import Target

_FAIR = 0.9
"""An instance is blamed for a timeout if it had this part of a try's time at least."""

Send = Callable[[Call, Target], Awaitable[Sent]]
"""Makes one attempt. Raises `httpx.TransportError`, `EgressRefusedError`."""
Resolve = Callable[[str], Sequence[Instance]]
"""Returns the instances of a type as the registry has them; the same object, as long as nothing changes."""
Step = Callable[[Call], Awaitable[Answer]]
InnerStep = Callable[[Call, InstanceState], Awaitable[Answer]]
Observe = Callable[[Call, InstanceState, Outcome, float], None]
"""Is told of each attempt, and the seconds to its head or its failure."""


def compose(service: Service, send: Send, resolve: Resolve, rng: Random, observe: Observe) -> Step:
    """Return how a service is called, from the caller inwards."""
    # Outermost, so that everything within knows one instant by which the head must be there; each wait ends by it.
    return _by_deadline(
        service,
        # Before anything is spent on a service of which half the calls fail whatever instance they go to. It judges
        # whole calls: within the retries it would open by failures that nobody saw.
        _behind_service_breaker(
            service,
            # Outside the balancing, so that a retry goes elsewhere; outside the limit, so that none is held while
            # it waits.
            _retried(
                service,
                rng,
                # Within the retries, so that each attempt goes by who is there now.
                _resolved(
                    service,
                    resolve,
                    # Outside limit and breaker, so that a refusal of theirs leads to another pick, and is no attempt.
                    _balanced(
                        Chooser(service, rng),
                        # Outside the breaker, so that a trial that waits for its turn takes no permit.
                        _within_limit(
                            # Inside everything that picks, so that it sees each attempt, and nothing but attempts.
                            _behind_instance_breaker(
                                # Next to the wire, so that latency and outcomes are the instance's own, without waits.
                                _measured(
                                    service,
                                    observe,
                                    _transported(service, send),
                                )
                            )
                        ),
                    ),
                ),
            ),
        ),
    )


def _by_deadline(service: Service, inner: Step) -> Step:
    async def step(call: Call) -> Answer:
        timeout = service.policy.timeout
        call.began = trio.current_time()
        call.is_hurried = call.timeout is not None and call.timeout < timeout
        if call.timeout is not None and (call.is_hurried or call.is_patient):
            timeout = call.timeout
        call.deadline = call.began + timeout
        answer = await inner(call)
        answer.attempts, answer.service_id = call.attempts, call.asked or ""
        now = trio.current_time()
        answer.seconds = now - call.began
        if call.is_whole:
            answer.until = call.deadline
            answer.late = _late(call, service, call.deadline - now)
        return answer

    return step


def _behind_service_breaker(service: Service, inner: Step) -> Step:
    breaker = service.breaker

    async def step(call: Call) -> Answer:
        try:
            breaker.acquire_on_behalf_of_nowait(call)
        except BreakerOpenError as refused:
            raise CircuitOpenError(str(refused), retry_after=_until(refused.until)) from None
        verdict, cause = Verdict.NEUTRAL, ""
        try:
            answer = await inner(call)
            verdict = answer.outcome.verdict
            if verdict is not Verdict.SUCCESS:
                cause = str(answer.outcome)
        except (UpstreamTimeoutError, UpstreamUnreachableError) as error:
            verdict, cause = call.made[-1].outcome.verdict, str(error)
            raise
        finally:
            breaker.release_on_behalf_of(call, verdict, cause)
        return answer

    return step


def _retried(service: Service, rng: Random, inner: Step) -> Step:
    return Retrying(service, rng, inner).call


def _resolved(service: Service, resolve: Resolve, inner: Step) -> Step:
    async def step(call: Call) -> Answer:
        service.see(resolve(service.name), trio.current_time())
        return await inner(call)

    return step


def _balanced(chooser: Chooser, inner: InnerStep) -> Step:
    async def step(call: Call) -> Answer:
        return await chooser.call(call, inner)

    return step


def _within_limit(inner: InnerStep) -> InnerStep:
    """The slot is taken by the chooser, which may have to wait for it: here it is held."""

    async def step(call: Call, state: InstanceState) -> Answer:
        limiter = state.limiter
        try:
            answer = await inner(call, state)
        except AttemptFailedError as failed:
            limiter.release_on_behalf_of(call, sample_of(failed.outcome))
            raise
        except BaseException:
            limiter.release_on_behalf_of(call, Sample.IGNORED)
            raise
        answer.at_end(lambda outcome: limiter.release_on_behalf_of(call, sample_of(outcome)))
        return answer

    return step


def _behind_instance_breaker(inner: InnerStep) -> InnerStep:
    async def step(call: Call, state: InstanceState) -> Answer:
        breaker = state.breaker
        admitted = breaker.acquire_on_behalf_of_nowait(call)
        verdict, cause = Verdict.NEUTRAL, ""
        try:
            answer = await inner(call, state)
            verdict = answer.outcome.verdict
            if verdict is not Verdict.SUCCESS:
                cause = str(answer.outcome)
        except AttemptFailedError as failed:
            verdict, cause = failed.outcome.verdict, str(failed)
            raise
        finally:
            # With the head, not the end: a stream that lasts for hours must not hold a trial.
            breaker.release_on_behalf_of(call, verdict, cause)

        def broken(outcome: Outcome) -> None:
            if outcome.verdict is Verdict.FAILURE and outcome.end is not End.ANSWERED:
                breaker.retract(admitted, f"{outcome}, in the body of an answer")

        answer.at_end(broken)
        return answer

    return step


def _measured(service: Service, observe: Observe, inner: InnerStep) -> InnerStep:
    roster, ejector = service.roster, service.ejector

    def note(call: Call, state: InstanceState, outcome: Outcome, seconds: float) -> None:
        call.made.append(Attempt(state.instance.id, outcome, seconds))
        observe(call, state, outcome, seconds)

    async def step(call: Call, state: InstanceState) -> Answer:
        member, key = state.member, state.instance.id
        begun = trio.current_time()
        roster.begin(member, begun)
        call.attempts += 1
        call.asked = key
        call.tried.append(member)
        try:
            answer = await inner(call, state)
        except AttemptFailedError as failed:
            now, verdict = trio.current_time(), failed.outcome.verdict
            latency = None if verdict is Verdict.NEUTRAL else now - begun
            roster.end(member, now, latency, failed=verdict is Verdict.FAILURE)
            _judge(key, state, verdict)
            note(call, state, failed.outcome, now - begun)
            raise
        except BaseException:
            now = trio.current_time()
            roster.end(member, now)
            note(call, state, Outcome(End.CANCELLED), now - begun)
            raise
        latency = trio.current_time() - begun
        note(call, state, answer.outcome, latency)
        _judge(key, state, answer.outcome.verdict)

        def end(outcome: Outcome) -> None:
            failed = outcome.verdict is Verdict.FAILURE
            roster.end(member, trio.current_time(), latency, failed=failed)
            if outcome.end is not End.ANSWERED:
                _judge(key, state, outcome.verdict)

        answer.at_end(end)
        return answer

    def _judge(key: str, state: InstanceState, verdict: Verdict) -> None:
        if service.states.get(key) is state:  # nothing is kept of one that has left
            ejector.record(key, verdict)

    return step


def _transported(service: Service, send: Send) -> InnerStep:
    async def step(call: Call, state: InstanceState) -> Answer:
        now = trio.current_time()
        until = call.deadline
        if call.may_be_repeated and not call.is_patient:
            until = min(until, now + service.policy.try_timeout)
        with trio.CancelScope(deadline=until):  # `move_on_at` is a generator around the same
            return await _attempt(call, state)
        if isinstance(call.body, KeptBody) and call.body.is_awaited:
            raise RequestBodyTooSlowError("The request's body did not arrive in time")
        given = until - now
        late = _late(call, service, given) if until == call.deadline else Outcome(End.TIMED_OUT)
        raise AttemptFailedError(late, f"{state.instance.id} did not answer within {round(given * 1000)} ms")

    async def _attempt(call: Call, state: InstanceState) -> Answer:
        try:
            sent = await send(call, state.target)
        except (httpx.TransportError, EgressRefusedError) as error:
            end = end_of(error)
            if end is None or (isinstance(call.body, KeptBody) and call.body.is_broken):
                raise  # it is the caller's request that is wrong, or that broke off
            raise AttemptFailedError(Outcome(end), f"{state.instance.id}: {error}") from None
        asked = retry_after(sent) if sent.status in {429, 503} else None
        return Answer(sent, answered(sent.status, asked))

    return step


def _late(call: Call, service: Service, given: float) -> Outcome:
    """Return what it says of an instance that it had not answered at the call's deadline, ``given`` so many seconds.

    Those who waited for a slot until next to nothing was left must not be held against whoever had it free at last.
    """
    is_blamed = given >= _FAIR * service.policy.try_timeout and not call.is_hurried
    return Outcome(End.TIMED_OUT if is_blamed else End.OUT_OF_TIME)


def _until(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - trio.current_time())
