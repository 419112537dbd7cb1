"""What is known of a service and of each of its instances, from call to call.

It outlives every change of the registry; what is known of an instance goes when the instance goes, or moves to
another address. Calls that are under way keep what they hold, and end at their own pace.
"""

from collections.abc import Callable, Sequence
from random import Random

import attrs
import trio

from econeura_daemon.client.policies import ServicePolicy
from econeura_daemon.primitives import AdaptiveLimiter, CircuitBreaker, RetryBudget
from econeura_daemon.registry.model import Instance, Status
from econeura_daemon.resilience import (
    Availability,
    Ejection,
    Ejector,
    Member,
    Phase,
    Roster,
    State,
    balancer,
    candidates,
)
from econeura_daemon.resilience.panic import THRESHOLD
from econeura_daemon.wire import Target

_SCHEMES = ("http", "https")
_COMPARED = 2
"""So many instances are needed to tell trouble of one from trouble of all."""


@attrs.define
class Totals:
    """Counted since the service is known."""

    requests: int = 0
    failures: int = 0
    """Calls that were answered 500, 502, 503 or 504, or not at all."""
    retries: int = 0
    refusals: int = 0
    """Calls that nobody was asked for: the budget of retries aside."""


@attrs.define(eq=False)
class InstanceState:
    """What is known of one instance."""

    instance: Instance
    target: Target
    member: Member
    limiter: AdaptiveLimiter
    breaker: CircuitBreaker


@attrs.frozen(kw_only=True)
class Told:
    """Who is told what changed: of breakers (of an instance, or None: of the service), ejections, panic."""

    breaker: Callable[[str, str | None, Phase], None] = lambda *_: None
    ejected: Callable[[str, Ejection], None] = lambda *_: None
    returned: Callable[[str, Ejection], None] = lambda *_: None
    panic: Callable[[str, bool], None] = lambda *_: None


class Service:
    """One type of service. ``now`` is on Trio's clock."""

    def __init__(self, name: str, policy: ServicePolicy, rng: Random, told: Told) -> None:
        self.name = name
        self.policy = policy
        self._rng = rng
        self._told = told
        self.roster = Roster()
        self.balancer = balancer(policy.balancer)
        self.ejector = Ejector()
        self.budget = RetryBudget(name=f"The retry budget of {name}")
        self.breaker = self._breaker(name, None)
        self.states: dict[str, InstanceState] = {}
        self.totals = Totals()
        self.is_panic = False
        self._seen: Sequence[Instance] = ()
        self._review_at = float("inf")
        self._sweep_at = trio.current_time() + self.ejector.policy.interval

    def __repr__(self) -> str:
        return f"<Service {self.name!r}: {len(self.roster.usable)} of {len(self.states)} instances usable>"

    def follow(self, policy: ServicePolicy) -> None:
        """Call by another policy from now on.

        Everything that is known stays: or a change of one timeout would close every breaker, and let as many calls
        again go to each instance as are under way.
        """
        if policy.balancer != self.policy.balancer:
            self.balancer = balancer(policy.balancer)
        self.policy = policy
        self.breaker.policy = policy.service_breaker
        for state in self.states.values():
            state.breaker.policy = policy.breaker
            state.limiter.max_waiting = policy.max_waiting
            state.limiter.policy = policy.limit

    def see(self, instances: Sequence[Instance], now: float) -> None:
        """Take over the registry's view, and do what the passing of time alone does.

        ``instances``: the same object as before, if nothing changed.
        """
        if instances is not self._seen:
            self._seen = instances
            self._take(instances, now)
            self._review(now)
        elif now >= self._review_at:
            self._review(now)

    def _take(self, instances: Sequence[Instance], now: float) -> None:
        callable_ = {one.id: one for one in instances if one.registration.scheme in _SCHEMES}
        for key, state in list(self.states.items()):
            one = callable_.get(key)
            if one is None or _address(one) != _address(state.instance):
                del self.states[key]
                self.roster.leave(key)
                self.ejector.forget(key)
        for key, one in callable_.items():
            known = self.states.get(key)
            if known is None:
                self._join(one, now)
                continue
            if one.registration.weight != known.member.weight:
                self.roster.weigh(known.member, one.registration.weight)
            known.instance = one

    def _join(self, one: Instance, now: float) -> None:
        limiter = AdaptiveLimiter(self.policy.limit, max_waiting=self.policy.max_waiting, name=one.id)
        self.states[one.id] = InstanceState(
            one,
            _target(one),
            self.roster.join(one.id, now, one.registration.weight),
            limiter,
            self._breaker(one.id, one.id),
        )

    def _breaker(self, name: str, instance_id: str | None) -> CircuitBreaker:
        def changed(phase: Phase) -> None:
            state = None if instance_id is None else self.states.get(instance_id)
            if state is not None and phase.state is State.CLOSED:
                self.roster.start_slowly(state.member, trio.current_time())
            if instance_id is not None and phase.state is State.OPEN:
                phase = self._hasten(instance_id, phase)
            self._told.breaker(self.name, instance_id, phase)

        policy = self.policy.service_breaker if instance_id is None else self.policy.breaker
        return CircuitBreaker(policy, name=name, on_change=changed, rng=self._rng)

    def _hasten(self, opened: str, phase: Phase) -> Phase:
        """Let trials begin soon, if the breakers of most of those that may be picked refuse: they share the trouble.

        A breaker spares callers an instance that is worse than others. Where there are none to go to, waiting for long
        spares nobody anything: a slow moment of them all would be a minute without answers. The limits, lowered by
        now, see to it that what comes back is not run over.
        """
        among = {key: one.breaker for key, one in self.states.items() if one.member.place >= 0}
        closed = sum(breaker.state is State.CLOSED for breaker in among.values())
        if opened not in among or len(among) < _COMPARED or closed >= THRESHOLD * len(among):
            return phase
        until = trio.current_time() + self.policy.shared_open_for
        for breaker in among.values():
            breaker.hasten(until)
        return attrs.evolve(phase, until=until if phase.until is None else min(phase.until, until))

    def _review(self, now: float) -> None:
        """Let back in whose ejection is over, eject outliers, and find out who may be picked."""
        for ejection in self.ejector.returned(now):
            state = self.states.get(str(ejection.key))
            if state is not None:
                self.roster.start_slowly(state.member, now)
            self._told.returned(self.name, ejection)
        if now >= self._sweep_at:
            interval = self.ejector.policy.interval
            # What was counted before a time without calls says nothing of who is an outlier after it.
            is_late = now >= self._sweep_at + interval
            self._sweep_at = now + interval
            usable = [
                key for key, one in self.states.items() if not is_late and self._may_be_ejected(one, now)
            ]
            for ejection in self.ejector.sweep(usable, len(self.states), now):
                self._told.ejected(self.name, ejection)
        chosen = candidates({key: self.availability(one, now) for key, one in self.states.items()})
        usable_keys = set(chosen.keys)
        for key, one in self.states.items():
            self.roster.set_usable(one.member, usable=key in usable_keys)
        if chosen.is_panic != self.is_panic:
            self.is_panic = chosen.is_panic
            self._told.panic(self.name, chosen.is_panic)
        refusals = (self.ejector.refusal(key, now) for key in self.states)
        ends = [one.until for one in refusals if one is not None and one.until is not None]
        self._review_at = min([self._sweep_at, *ends])

    def availability(self, one: InstanceState, now: float) -> Availability:
        """Return what its status and its ejection say; not its breaker, nor its limit."""
        status = one.instance.status
        if status is Status.DRAINING:
            return Availability.DRAINED
        if status is Status.UNKNOWN:
            return Availability.UNKNOWN
        if status is Status.HEALTHY and self.ejector.refusal(one.instance.id, now) is None:
            return Availability.AVAILABLE
        return Availability.UNAVAILABLE

    def _may_be_ejected(self, one: InstanceState, now: float) -> bool:
        return self.availability(one, now) is Availability.AVAILABLE and one.breaker.refusal() is None

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self.budget.statistics().calls_in_flight


def _target(one: Instance) -> Target:
    said = one.registration
    return Target(said.scheme == "https", said.host, said.port, said.server_name)


def _address(one: Instance) -> tuple[str, str, int, str | None]:
    said = one.registration
    return said.scheme, said.host, said.port, said.server_name
