"""Which instance gets an attempt: the balancer's pick, unless its limit or its breaker refuses.

What refuses is passed over and the balancer asked again; a refusal of ours is no attempt, spends no retry, and is
nobody's failure. Only when everybody refuses, and some for want of a slot, is one of those waited for.
"""

from collections.abc import Awaitable, Callable
from random import Random

import trio

from econeura_daemon.client.calls import Answer, Call
from econeura_daemon.client.errors import CircuitOpenError, ConcurrencyLimitError, NoHealthyInstanceError
from econeura_daemon.client.service import InstanceState, Service
from econeura_daemon.primitives import BreakerOpenError, LimitReachedError, QueueFullError, Sample
from econeura_daemon.resilience import Member, pick

_ROOM = 2.0
"""Who waits for a slot leaves so many of the instance's usual latencies before the deadline."""


class Chooser:
    """Chooses for the calls of one service."""

    def __init__(self, service: Service, rng: Random) -> None:
        self._service = service
        self._rng = rng

    async def call(self, call: Call, inner: Callable[[Call, InstanceState], Awaitable[Answer]]) -> Answer:
        """Make an attempt with an instance that has a slot for it: ``inner`` takes the slot over.

        Raises `NoHealthyInstanceError`, `CircuitOpenError`, `ConcurrencyLimitError`, and what ``inner`` raises.
        """
        passed: list[Member] = []
        full: list[InstanceState] = []
        broken: dict[Member, BreakerOpenError] = {}
        while True:
            state = self._pick(call, passed)
            if state is None:
                if not full:
                    raise self._refusal(broken)
                state = await self._wait(call, full)
                full.clear()
                passed = list(broken)  # in the meantime, others may have got a slot free
                if state.member.place < 0:  # or this one has left
                    state.limiter.release_on_behalf_of(call, Sample.IGNORED)
                    continue
            else:
                try:
                    state.limiter.acquire_on_behalf_of_nowait(call)
                except LimitReachedError:
                    passed.append(state.member)
                    full.append(state)
                    continue
            try:
                return await inner(call, state)
            except BreakerOpenError as refused:  # nothing is held any more
                broken[state.member] = refused
                passed.append(state.member)

    def _pick(self, call: Call, passed: list[Member]) -> InstanceState | None:
        """Return who is next: one that has not been tried yet, if there is one."""
        service, now = self._service, trio.current_time()
        member = pick(service.balancer, service.roster, now, self._rng, [*call.tried, *passed])
        if member is None and call.tried:
            member = pick(service.balancer, service.roster, now, self._rng, passed)
        return None if member is None else service.states[str(member.key)]

    async def _wait(self, call: Call, full: list[InstanceState]) -> InstanceState:
        """Wait for a slot of the one with the shortest queue, in turn, and as long as there is time for an answer.

        A queue is longest when there is too much to do. Whoever then waits until the deadline gets a slot when it is of
        no use any more, so that in the end there is work for calls alone that come to nothing.
        """
        state = min(full, key=lambda one: (one.limiter.tasks_waiting + 1) / one.limiter.limit)
        now, service = trio.current_time(), self._service
        needed = min(_ROOM * service.roster.latency(state.member, now), service.policy.try_timeout)
        try:
            with trio.move_on_at(call.deadline - min(needed, (call.deadline - now) / 2)):
                await state.limiter.acquire_on_behalf_of(call)
                return state
        except QueueFullError as refused:
            raise ConcurrencyLimitError(f"{self._service.name}: {refused}", retry_after=1.0) from None
        raise ConcurrencyLimitError(
            f"{self._service.name}: no instance had a slot free in time for an answer before the deadline",
            retry_after=1.0,
        )

    def _refusal(self, broken: dict[Member, BreakerOpenError]) -> Exception:
        name = self._service.name
        if not broken:
            return NoHealthyInstanceError(_nobody(self._service))
        now = trio.current_time()
        known = [refused.until for refused in broken.values() if refused.until is not None]
        reasons = "; ".join(str(refused) for refused in list(broken.values())[:3])
        return CircuitOpenError(
            f"{name}: every instance's breaker refuses: {reasons}",
            retry_after=max(0.0, min(known) - now) if known else None,
        )


def _nobody(service: Service) -> str:
    if not service.states:
        return f"No instance of {service.name!r} is registered that speaks HTTP"
    return f"All {len(service.states)} instances of {service.name!r} are draining"
