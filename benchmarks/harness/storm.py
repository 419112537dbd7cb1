"""A service that has a bad time while calls go on coming, on Trio with a clock that jumps.

What is simulated is what lies beyond the wire, and who calls; everything between is the daemon's own. A host works on a
few requests at once, the rest queue there without bound, and it does not notice that a caller has left: what is in its
queue is worked on for nobody. That is what makes a storm of a slow moment.
"""

import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import ceil, inf
from random import Random

import attrs
import httpx
import trio
from trio.testing import MockClock

from econeura_daemon.client import Answer, Call, Mesh, MeshError, Service, Told
from econeura_daemon.client.policies import ServicePolicy
from econeura_daemon.client.steps import Send, compose
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import RetryBudget
from econeura_daemon.registry.model import Health, Instance, Registration, Verdict
from econeura_daemon.resilience import AdaptivePolicy, BudgetPolicy, RetryPolicy

_HASTY = MeshSettings(timeout_ms=3_000, try_timeout_ms=1_000)
TICK = 0.005
"""Seconds: who is done is told once a tick, and calls come once a tick, which halves what a simulation costs."""
ENOUGH = 0.95
"""The part of a second's calls that must be answered for the service to be back."""


@attrs.frozen
class Trouble:
    """What is the matter with a host."""

    slower: float = 1.0
    """How many times as long a request takes that it begins to work on now."""
    status: int | None = None
    """Everything is answered with it, at once."""
    refuses: bool = False
    """Nobody listens."""


@attrs.frozen(kw_only=True)
class Storm:
    """What happens. Durations in seconds; by default hosts for 1,000 requests a second get 700."""

    rate: float = 700.0
    """Calls a second, at random."""
    hosts: int = 10
    at_once: int = 5
    """Requests that a host works on."""
    seconds: float = 0.05
    """What one takes, exponentially distributed."""
    before: float = 10.0
    lasts: float = 5.0
    after: float = 25.0
    trouble: Trouble = Trouble(slower=10.0)
    ill: int | None = None
    """How many of the hosts are in trouble; None: all."""
    settings: MeshSettings = _HASTY


@attrs.frozen(kw_only=True)
class Parts:
    """Which of the client's parts are at work."""

    retries: int = 3
    budget: bool = True
    limit: bool = True
    breakers: bool = True
    hurry: bool = True
    """Whether breakers that share their trouble are open for a short time only (decision 18)."""


ALL = Parts()


@attrs.define
class Second:
    """What became of the calls that began within one second, and the attempts that did."""

    calls: int = 0
    good: int = 0
    """Answered with 200 in time."""
    firsts: int = 0
    retries: int = 0


@attrs.define
class Course:
    """What a storm did, second by second."""

    storm: Storm
    seconds: list[Second]

    @property
    def recovery(self) -> float:
        """Seconds from the trouble's end until 95 % of each second's calls are answered; inf: they never are."""
        last = max((n for n, one in enumerate(self.seconds) if one.good < ENOUGH * one.calls), default=-1)
        if last == len(self.seconds) - 1:
            return inf
        return max(0.0, last + 1 - self.storm.before - self.storm.lasts)

    @property
    def amplification(self) -> float:
        """Attempts for each call that had one, from the trouble's beginning until all is well, or to the end."""
        seconds = self._stormy
        firsts = sum(one.firsts for one in seconds)
        return 1 + sum(one.retries for one in seconds) / firsts

    @property
    def peak(self) -> float:
        """What retries made of the calls' rate, in the worst second."""
        return max(1 + one.retries / one.calls for one in self.seconds)

    def answered(self, since: float, until: float) -> float:
        """Return the part of the calls that was answered, of those that began between two instants."""
        part = self.seconds[int(since) : int(until)]
        return sum(one.good for one in part) / sum(one.calls for one in part)

    @property
    def _stormy(self) -> Sequence[Second]:
        storm = self.storm
        end = storm.before + storm.lasts + self.recovery
        return self.seconds[int(storm.before) : None if end == inf else max(ceil(end), int(storm.before) + 1)]


def run(storm: Storm, parts: Parts = ALL, seed: int = 1) -> Course:
    """Let it happen, with these parts of the client at work.

    Calls and work follow the seed. Trio shuffles what is due at once, so two courses of one seed differ a little.
    """
    return trio.run(_run, storm, parts, seed, clock=MockClock(autojump_threshold=0))


async def _run(storm: Storm, parts: Parts, seed: int) -> Course:
    rng = Random(seed)
    hosts = {f"host-{n}": _Host(rng, storm.at_once, storm.seconds) for n in range(storm.hosts)}
    end = storm.before + storm.lasts + storm.after
    course = Course(storm, [Second() for _ in range(int(end))])

    async def send(call: Call, target):
        now = trio.current_time()
        if now < end:
            second = course.seconds[int(now)]
            second.firsts += call.attempts == 1
            second.retries += call.attempts > 1
        return await hosts[target.host].answer()

    begin = _caller(storm, parts, tuple(_instance(name) for name in hosts), send, rng)

    async def call() -> None:
        second = course.seconds[min(int(trio.current_time()), len(course.seconds) - 1)]
        second.calls += 1
        try:
            answer = await begin(Call(service="workers", method="GET", place=b"/"))
        except MeshError:
            return
        answer.close()
        second.good += answer.status == 200

    changes = [(storm.before, storm.trouble), (storm.before + storm.lasts, Trouble())]
    due = 0.0
    async with trio.open_nursery() as nursery:
        for tick in range(round((end + storm.settings.timeout_ms / 1000) / TICK)):
            now = tick * TICK
            await trio.sleep_until(now)
            if changes and now >= changes[0][0]:
                _, trouble = changes.pop(0)
                for host in list(hosts.values())[: storm.ill]:
                    host.trouble = trouble
            for host in hosts.values():
                host.turn(now)
            while due <= now < end:
                nursery.start_soon(call)
                due += rng.expovariate(storm.rate)
        nursery.cancel_scope.cancel()
    return course


def _caller(
    storm: Storm, parts: Parts, instances: Sequence[Instance], send: Send, rng: Random
) -> Callable[[Call], Awaitable[Answer]]:
    if parts == ALL:  # nothing but what the daemon does
        mesh = Mesh(
            resolve=lambda _: instances, settings_of=lambda _: storm.settings, sender=lambda _: send, rng=rng
        )
        return mesh.call
    policy = ServicePolicy.of(storm.settings)
    policy = attrs.evolve(policy, retry=RetryPolicy(retries=parts.retries))
    if not parts.limit:
        boundless = 1_000_000
        policy = attrs.evolve(
            policy, limit=AdaptivePolicy(initial=boundless, minimum=boundless, maximum=boundless)
        )
    if not parts.breakers:
        never = attrs.evolve(policy.breaker, failures_in_a_row=None, failure_rate=None)
        policy = attrs.evolve(policy, breaker=never, service_breaker=never)
    elif not parts.hurry:
        alone = policy.breaker
        policy = attrs.evolve(
            policy,
            shared_open_for=alone.max_open_for,
            service_breaker=attrs.evolve(alone, failures_in_a_row=None, timeout=policy.timeout),
        )
    service = Service("workers", policy, rng, Told())
    if not parts.budget:
        service.budget = RetryBudget(BudgetPolicy(ratio=1e9, active_ratio=1.0, min_active=1_000_000))
    return compose(service, send, lambda _: instances, rng, lambda *_: None)


@attrs.define(eq=False)
class _Job:
    task: trio.lowlevel.Task | None
    """Who waits for it; None: nobody any more."""


class _Head:
    """An answer without a body."""

    headers = ()

    def __init__(self, status: int) -> None:
        self.status = status

    is_whole = True

    async def more(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return b""

    def end(self) -> None:
        pass


class _Host:
    def __init__(self, rng: Random, at_once: int, seconds: float) -> None:
        self._rng = rng
        self._at_once = at_once
        self._seconds = seconds
        self._queue: deque[_Job] = deque()
        self._ends: list[tuple[float, int, _Job]] = []
        self._begun = 0
        self.trouble = Trouble()

    def turn(self, now: float) -> None:
        """Do what was to be done until ``now``."""
        while self._ends and self._ends[0][0] <= now:
            at, _, job = heapq.heappop(self._ends)
            if job.task is not None:
                trio.lowlevel.reschedule(job.task)
                job.task = None
            if self._queue:
                self._start(self._queue.popleft(), at)

    async def answer(self) -> _Head:
        """Answer a request once it has had its turn, unless there is trouble of another kind."""
        if self.trouble.refuses or self.trouble.status is not None:
            await trio.lowlevel.checkpoint()
            if self.trouble.status is None:
                raise httpx.ConnectError("connection refused")
            return _Head(self.trouble.status)
        job = _Job(trio.lowlevel.current_task())
        if len(self._ends) < self._at_once:
            self._start(job, trio.current_time())
        else:
            self._queue.append(job)

        def leave(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            job.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)
        return _Head(200)

    def _start(self, job: _Job, at: float) -> None:
        self._begun += 1
        lasts = self._rng.expovariate(1 / self._seconds) * self.trouble.slower
        heapq.heappush(self._ends, (at + lasts, self._begun, job))


def _instance(name: str) -> Instance:
    return Instance(
        registration=Registration(id=name, name=name, type="workers", host=name, port=80),
        generation=1,
        registered_at=0,
        health=Health(verdict=Verdict.HEALTHY, reason="simulated"),
    )
