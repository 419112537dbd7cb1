"""The prober: probes every instance that has a check when its time comes, and tells the registry what changed.

Times stand in the registry's one heap; a task exists only while a probe runs. At most so many run at once, the rest
wait in the order in which they fell due. A result of a registration that has ended or was replaced is dropped.
"""

import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.instances import CheckKind
from econeura_daemon.probes.client import Probe
from econeura_daemon.probes.model import LastProbe, ProbeResult
from econeura_daemon.probes.verdict import Judgement, settled
from econeura_daemon.registry import Registry, Timer
from econeura_daemon.registry.model import Change, Check, Instance

FIRST = 0.5
"""Seconds within which a new registration is probed: registrants often say so just before they listen."""
JITTER = 0.1
"""Of the interval, either way."""
OVERDUE = 1.0
"""Seconds past its timeout after which a probe that failed says something of us and nothing of the instance."""
ADDRESS_ALONE = Check(kind=CheckKind.TCP)
"""How one that has no check is probed when somebody wants to know."""

_log = logging.getLogger(__name__)


@attrs.define(eq=False)
class _Probed:
    """One registration under probes."""

    instance: Instance
    check: Check | None
    judgement: Judgement
    timer: Timer = attrs.field(init=False)
    last: LastProbe | None = None
    is_waiting: bool = False
    """In the queue, or its probe runs."""
    wanted_at: float = 0.0
    """When it came into the queue."""
    running: trio.CancelScope | None = None
    asking: list[Callable[[bool], None]] = attrs.field(factory=list)


class Prober:
    """See the module. Made by `open_prober`."""

    def __init__(
        self,
        registry: Registry,
        probe: Probe,
        clock: Clock,
        rng: Random,
        tasks: trio.Nursery,
        *,
        max_in_flight: int,
    ) -> None:
        self._registry = registry
        self._probe = probe
        self._clock = clock
        self._rng = rng
        self._tasks = tasks
        self._max_in_flight = max_in_flight
        self._probed: dict[str, _Probed] = {}
        self._queue: deque[_Probed] = deque()
        self._running: set[_Probed] = set()
        self._draining = False

    def __repr__(self) -> str:
        return (
            f"<Prober: {len(self._probed)} instances, {self.in_flight} probes run, {len(self._queue)} wait>"
        )

    @property
    def in_flight(self) -> int:
        """How many probes run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many probes are due and find no room."""
        return len(self._queue)

    @property
    def late_by(self) -> float:
        """For how many seconds the first of them has found none."""
        return trio.current_time() - self._queue[0].wanted_at if self._queue else 0.0

    @property
    def checks(self) -> int:
        """How many instances have a check."""
        return sum(one.check is not None for one in self._probed.values())

    def last(self, instance_id: str) -> LastProbe | None:
        """Return how the last probe of an instance's registration went, None if none has come back."""
        probed = self._probed.get(instance_id)
        return None if probed is None else probed.last

    def load(self) -> None:
        """Take up the instances that an earlier run left: their probes are spread over their intervals."""
        now = trio.current_time()
        for members in self._registry.snapshot().types.values():
            for instance in members:
                probed = self._begin(instance)
                if probed.check is not None:
                    soon = probed.judgement.next_in_ms(probed.check) / 1000
                    self._registry.timers.set(probed.timer, now + self._rng.uniform(0, soon))

    def follow(self, change: Change) -> None:
        """Take notice of a committed change."""
        before, after = change.before, change.after
        if before is not None and (after is None or after.generation != before.generation):
            self._end(before)
        if after is None:
            return
        if before is None or after.generation != before.generation:
            probed = self._begin(after)
            if probed.check is not None:
                self._soon(probed)
        else:
            self._probed[after.id].instance = after

    def probe_now(self, instance: Instance, tell: Callable[[bool], None]) -> None:
        """Probe an instance at once, without a check by whether it accepts connections; see `registry.ProbeNow`."""
        probed = self._probed.get(instance.id)
        if probed is not None and probed.instance.generation == instance.generation:
            probed.asking.append(tell)
            self._want(probed)

    def drain(self) -> None:
        """Begin no more probes, and end those that run: their results would be nobody's."""
        self._draining = True
        self._queue.clear()
        for probed in self._running:
            if probed.running is not None:
                probed.running.cancel()

    def _begin(self, instance: Instance) -> _Probed:
        check = instance.registration.check
        judgement = Judgement() if check is None else settled(instance.health.verdict, check)
        probed = self._probed[instance.id] = _Probed(instance, check, judgement)
        probed.timer = Timer(lambda _now: self._want(probed))
        return probed

    def _end(self, instance: Instance) -> None:
        probed = self._probed.pop(instance.id)
        self._registry.timers.cancel(probed.timer)
        if probed.running is not None:
            probed.running.cancel()

    def _is_over(self, probed: _Probed) -> bool:
        return self._probed.get(probed.instance.id) is not probed

    def _want(self, probed: _Probed) -> None:
        if not probed.is_waiting and not self._draining:
            probed.is_waiting = True
            probed.wanted_at = trio.current_time()
            self._queue.append(probed)
            self._pump()

    def _pump(self) -> None:
        while self._queue and self.in_flight < self._max_in_flight:
            probed = self._queue.popleft()
            if not self._is_over(probed):
                self._running.add(probed)
                self._tasks.start_soon(self._run, probed)

    async def _run(self, probed: _Probed) -> None:
        result: ProbeResult | None = None
        began = trio.current_time()
        try:
            with trio.CancelScope() as probed.running:
                if not self._is_over(probed) and not self._draining:
                    result = await self._probe(probed.instance.registration, probed.check or ADDRESS_ALONE)
        except Exception:  # noqa: BLE001 - one instance's bug must not end the others' probes
            _log.exception("a probe failed", extra={"service": probed.instance.id})
        finally:
            probed.running = None
            probed.is_waiting = False
            self._running.discard(probed)
        if not self._is_over(probed):
            if result is None:
                self._schedule(probed)
            elif self._stood_still(probed, result, trio.current_time() - began):
                self._soon(probed)
            else:
                self._note(probed, result, began)
                self._schedule(probed)
        self._pump()

    def _stood_still(self, probed: _Probed, result: ProbeResult, seconds: float) -> bool:
        """Tell whether a probe failed because our own loop did not turn meanwhile."""
        timeout = (probed.check or ADDRESS_ALONE).timeout_ms / 1000
        return not result.passed and seconds > timeout + OVERDUE

    def _note(self, probed: _Probed, result: ProbeResult, began: float) -> None:
        probed.last = LastProbe(
            at=to_ms(self._clock.now()),
            duration_ms=round((trio.current_time() - began) * 1000),
            result=result,
        )
        if probed.check is not None:
            probed.judgement, reason = probed.judgement.observe(result, probed.check)
            if reason is not None:
                instance = probed.instance
                self._registry.settler.want(
                    instance.id, instance.generation, verdict=probed.judgement.verdict, reason=reason
                )
        asking, probed.asking = probed.asking, []
        for tell in asking:
            tell(result.passed)

    def _soon(self, probed: _Probed) -> None:
        self._registry.timers.set(probed.timer, trio.current_time() + self._rng.uniform(0, FIRST))

    def _schedule(self, probed: _Probed) -> None:
        if probed.check is not None:
            interval = probed.judgement.next_in_ms(probed.check) / 1000
            due = trio.current_time() + interval * self._rng.uniform(1 - JITTER, 1 + JITTER)
            self._registry.timers.set(probed.timer, due)


@asynccontextmanager
async def open_prober(
    *, registry: Registry, probe: Probe, clock: Clock, rng: Random, max_in_flight: int
) -> AsyncGenerator[Prober]:
    """Probe for the length of the block."""
    async with trio.open_nursery() as tasks:
        prober = Prober(registry, probe, clock, rng, tasks, max_in_flight=max_in_flight)
        registry.leases.probe_now = prober.probe_now
        registry.follow(prober.follow)
        prober.load()
        tasks.start_soon(trio.sleep_forever)  # keeps it open while no probe runs
        try:
            yield prober
        finally:
            prober.drain()
            tasks.cancel_scope.cancel()
