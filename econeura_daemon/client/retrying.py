"""Attempts until one is good enough, none may follow, or the budget is spent."""

from collections.abc import Awaitable, Callable
from random import Random

import trio

from econeura_daemon.client.calls import Answer, Call
from econeura_daemon.client.errors import (
    AttemptFailedError,
    MeshError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from econeura_daemon.client.service import Service
from econeura_daemon.primitives import BudgetExhaustedError, RetryBudget, Verdict
from econeura_daemon.resilience import End, GiveUp, Outcome, RetryAt, next_attempt


class _Permit:
    """A call's place among the retries; giving back what is not held is harmless."""

    __slots__ = ("_call", "_is_held", "_retries")

    def __init__(self, budget: RetryBudget, call: Call) -> None:
        self._retries = budget.retries
        self._call = call
        self._is_held = False

    def renew(self) -> BudgetExhaustedError | None:
        """Take it for the next retry; return why there is none."""
        self.give_back()
        try:
            self._retries.acquire_on_behalf_of_nowait(self._call)
        except BudgetExhaustedError as exhausted:
            return exhausted
        self._is_held = True
        return None

    def give_back(self) -> None:
        if self._is_held:
            self._is_held = False
            self._retries.release_on_behalf_of(self._call)


class Retrying:
    """Makes the attempts of a service's calls."""

    def __init__(self, service: Service, rng: Random, inner: Callable[[Call], Awaitable[Answer]]) -> None:
        self._service = service
        self._rng = rng
        self._inner = inner

    async def call(self, call: Call) -> Answer:
        """Return the answer of the last attempt. Raises `MeshError` where that brought none.

        The call and its last retry count as under way in the budget until the answer ends.
        """
        budget = self._service.budget
        permit = _Permit(budget, call)

        def give_back(_: object = None) -> None:
            permit.give_back()
            budget.release_on_behalf_of(call)

        budget.acquire_on_behalf_of_nowait(call)
        try:
            answer = await self._attempts(call, permit)
        except BaseException:
            give_back()
            raise
        answer.at_end(give_back)
        return answer

    async def _attempts(self, call: Call, permit: _Permit) -> Answer:
        retried = 0
        while True:
            answer: Answer | None = None
            failure: AttemptFailedError | None = None
            try:
                answer = await self._inner(call)
                outcome = answer.outcome
                if outcome.verdict is Verdict.SUCCESS:
                    return answer
            except AttemptFailedError as failed:
                failure, outcome = failed, failed.outcome
            then = self._next(call, outcome, retried)
            if answer is not None:
                # It is thrown away for an attempt that will be made, and no other: the permit comes first.
                if isinstance(then, GiveUp) or permit.renew() is not None:
                    return answer
                answer.close()
                await trio.sleep_until(then.at)
            else:
                assert failure is not None
                if isinstance(then, GiveUp):
                    raise self._error(failure, then.reason)
                permit.give_back()
                await self._permitted(call, permit, failure, then.at, retried)
            retried += 1
            self._service.totals.retries += 1

    async def _permitted(
        self, call: Call, permit: _Permit, failure: AttemptFailedError, at: float, retried: int
    ) -> None:
        """Take the permit at ``at``, or after another wait, if it is only others' retries that leave none.

        A failure costs nothing to keep, so the permit is for the attempt alone, not for the wait before it: of an
        instance that hangs many calls fail at once, and most would find no permit left.
        """
        policy = self._service.policy.retry
        while True:
            await trio.sleep_until(at)
            refused = permit.renew()
            if refused is None:
                return
            retried += 1
            at = trio.current_time() + policy.wait(retried, self._rng)
            if retried > policy.retries or at >= call.deadline or at < (refused.until or 0.0):
                raise self._error(failure, refused.reason)

    def _next(self, call: Call, outcome: Outcome, retried: int) -> RetryAt | GiveUp:
        """Return when another attempt may begin, its budget aside; or why there is none."""
        return next_attempt(
            self._service.policy.retry,
            call.request,
            outcome,
            retried=retried,
            now=trio.current_time(),
            deadline=call.deadline,
            rng=self._rng,
        )

    def _error(self, failure: AttemptFailedError, reason: str) -> MeshError:
        detail = f"{self._service.name}: {failure}; {reason}"
        if failure.outcome.end in {End.TIMED_OUT, End.OUT_OF_TIME}:
            return UpstreamTimeoutError(detail)
        return UpstreamUnreachableError(detail)
