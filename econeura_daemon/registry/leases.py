"""Leases: who promised to renew, until when, and what happens if nothing comes.

Heartbeats live here and nowhere else. Times are Trio's, so a step of the wall clock expires nothing; after a restart
and after the machine was suspended every lease lasts once more in full; time in which our loop stood still, or the
process was stopped, does not count, for nobody could be heard. What a lease that ran out means for the
instance is written by the `Settler`.
"""

import enum
import logging
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import attrs
import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.registry.model import Change, Instance, Status
from econeura_daemon.registry.preserve import Preserve
from econeura_daemon.registry.settler import Settler
from econeura_daemon.registry.timers import Timer, Timers

LATE = 0.1
"""Seconds that our loop is late from which on heartbeats may wait in the sockets, unread."""
STALL = 2.0
"""Seconds that our loop is late from which on registrants may have been unheard."""
CATCH_UP = 1.0
"""Seconds for reading them, at most: a lease that ran out meanwhile is given that time, once."""
SUSPENDED = 1.0
"""Seconds by which the time since boot must run ahead of Trio's to mean that the machine was suspended."""

_log = logging.getLogger(__name__)


class ProbeNow(Protocol):
    """Probes an instance at once and tells whether it answered as it should."""

    def __call__(self, instance: Instance, tell: Callable[[bool], None], /) -> None:
        """Begin; ``tell`` is called on the loop. It is not called for a registration that ends meanwhile."""
        ...


def _nobody_probes(_instance: Instance, _tell: Callable[[bool], None]) -> None:
    """Keep what is kept."""


class _State(enum.Enum):
    LIVE = "live"
    KEPT = "kept"
    """Ran out; preserve mode keeps it, shown as stale."""
    EXPIRED = "expired"


@attrs.define(eq=False)
class Lease:
    """One registration's lease, and its time to be removed. Seconds, but for ``renewed_at``."""

    instance: Instance
    renewed_at: int | None
    """When a heartbeat came last, in milliseconds since the epoch; None: none since this run began."""
    state: _State = _State.LIVE
    was_awaited: bool = False
    """It ran out while our loop was late, and got time to be heard since its last heartbeat."""
    ttl: float | None = attrs.field(init=False)
    expired_at: float = float("-inf")
    timer: Timer = attrs.field(init=False)
    removal: Timer = attrs.field(init=False)

    @ttl.default
    def _ttl(self) -> float | None:
        ttl_ms = self.instance.registration.ttl_ms
        return None if ttl_ms is None else ttl_ms / 1000


class Leases:
    """Every lease, by the id of its instance."""

    def __init__(
        self,
        timers: Timers,
        settler: Settler,
        clock: Clock,
        *,
        heartbeat_interval: float,
        boot_time: Callable[[], float],
    ) -> None:
        """``boot_time``: seconds since boot, in which those of a suspend are counted."""
        self.preserve = Preserve(heartbeat_interval)
        self.probe_now: ProbeNow = _nobody_probes
        self._timers = timers
        self._settler = settler
        self._clock = clock
        self._interval = heartbeat_interval
        self._boot_time = boot_time
        self._leases: dict[str, Lease] = {}
        self._live = 0
        """Leases that are renewed: those that are kept prove nothing."""
        self._due: list[Lease] = []
        self._gone: deque[Lease] = deque()
        """Leases that ran out for good lately: should it turn out that many did, they are looked at again."""
        self._clocks = (trio.current_time(), boot_time())
        self._hear_until = float("-inf")
        timers.turned.append(self._settle_due)
        timers.ticked.append(self._tick)

    def __repr__(self) -> str:
        return f"<Leases: {len(self._leases)}, {self._live} live, preserve mode {self.preserve_mode()}>"

    def preserve_mode(self) -> bool:
        """Tell whether leases that run out are kept."""
        return self.preserve.active(trio.current_time())

    def load(self, instances: list[Instance]) -> None:
        """Take up what an earlier run left: each lease lasts once in full, what had run out has run out."""
        now = trio.current_time()
        for instance in instances:
            self._begin(instance, None, now)

    def follow(self, change: Change) -> None:
        """Take notice of a committed change."""
        before, after = change.before, change.after
        if before is not None and (after is None or after.generation != before.generation):
            self._end(before)
        now = trio.current_time()
        if after is None:
            return
        if before is None or after.generation != before.generation:
            self._begin(after, after.registered_at, now)
            return
        lease = self._leases[after.id]
        lease.instance = after
        if after.status is not before.status:
            self._time_removal(lease, now)

    def renew(self, instance_id: str) -> Lease | None:
        """Take a heartbeat; return the lease, None if there is no such instance."""
        lease = self._leases.get(instance_id)
        if lease is None:
            return None
        lease.renewed_at = to_ms(self._clock.now())
        lease.was_awaited = False
        if lease.ttl is not None:
            self._timers.set(lease.timer, trio.current_time() + lease.ttl)
            if lease.state is not _State.LIVE:
                self._enter(lease, _State.LIVE)
        return lease

    def last_heartbeat(self, instance_id: str) -> int | None:
        """Return when a heartbeat came last, in milliseconds since the epoch."""
        lease = self._leases.get(instance_id)
        return None if lease is None else lease.renewed_at

    def grant_grace(self) -> None:
        """Let every lease that has not run out last once in full from now on."""
        now = trio.current_time()
        for lease in self._leases.values():
            if lease.ttl is not None and lease.state is not _State.EXPIRED:
                self._timers.set(lease.timer, now + lease.ttl)

    # A registration begins and ends.

    def _begin(self, instance: Instance, renewed_at: int | None, now: float) -> None:
        lease = self._leases[instance.id] = Lease(instance, renewed_at)
        lease.timer = Timer(lambda _now: self._due.append(lease))
        lease.removal = Timer(partial(self._remove, lease))
        if lease.ttl is not None:
            if instance.health.expired:
                lease.state = _State.EXPIRED
            else:
                self._live += 1
                self._timers.set(lease.timer, now + lease.ttl)
        if instance.health.stale:
            self._want(lease)  # an earlier run's preserve mode ended with it
        self._time_removal(lease, now)

    def _end(self, instance: Instance) -> None:
        lease = self._leases.pop(instance.id)
        self._timers.cancel(lease.timer)
        self._timers.cancel(lease.removal)
        if lease.ttl is not None and lease.state is _State.LIVE:
            self._live -= 1

    def _time_removal(self, lease: Lease, now: float) -> None:
        instance = lease.instance
        if instance.status is Status.UNHEALTHY and not instance.is_static:
            self._timers.set(lease.removal, now + instance.registration.deregister_after_ms / 1000)
        else:
            self._timers.cancel(lease.removal)

    def _remove(self, lease: Lease, _now: float) -> None:
        said = lease.instance.registration
        reason = f"unhealthy for {said.deregister_after_ms} ms: {lease.instance.reason}"
        self._settler.want_removed(said.id, lease.instance.generation, reason)

    # Leases run out.

    def _settle_due(self, now: float) -> None:
        """Decide about all leases that ran out in one turn together."""
        due = [lease for lease in self._due if self._leases.get(lease.instance.id) is lease]
        self._due.clear()
        if now < self._hear_until:
            due = [lease for lease in due if not self._await_once(lease)]
        running_out = [lease for lease in due if lease.state is _State.LIVE]
        was_active = self.preserve.active(now)
        if running_out:
            self.preserve = self.preserve.expire(now, len(running_out), self._live - len(running_out))
        is_active = self.preserve.active(now)
        if is_active and not was_active:
            self._enter_preserve(now)
        for lease in due:
            if lease.state is _State.LIVE and is_active:
                self._keep(lease, now)
            elif lease.state is _State.KEPT and is_active:
                self._timers.set(lease.timer, now + self._interval)
            elif lease.state is not _State.EXPIRED:
                self._expire(lease, now)

    def _await_once(self, lease: Lease) -> bool:
        """Give a lease that ran out while our loop was late the time to be heard, unless it had it already."""
        if lease.was_awaited:
            return False
        lease.was_awaited = True
        self._timers.set(lease.timer, self._hear_until)
        return True

    def _enter_preserve(self, now: float) -> None:
        """Those that ran out before it showed that they are many get the same chance."""
        _log.warning("preserve mode: %s; leases that run out are kept, probes decide", self.preserve.cause)
        gone, self._gone = self._gone, deque()
        for lease in gone:
            if lease.state is _State.EXPIRED and lease.expired_at > now - self._interval:
                self.probe_now(lease.instance, partial(self._judge_gone, lease))

    def _keep(self, lease: Lease, now: float) -> None:
        self._prolong(lease, now)
        self.probe_now(lease.instance, partial(self._judge_kept, lease))

    def _expire(self, lease: Lease, now: float) -> None:
        lease.expired_at = now
        self._enter(lease, _State.EXPIRED)
        while self._gone and self._gone[0].expired_at <= now - self._interval:
            self._gone.popleft()
        self._gone.append(lease)

    def _judge_kept(self, lease: Lease, passed: bool) -> None:  # noqa: FBT001 - a probe's answer
        if lease.state is _State.KEPT and not passed:
            self._timers.cancel(lease.timer)
            self._expire(lease, trio.current_time())

    def _judge_gone(self, lease: Lease, passed: bool) -> None:  # noqa: FBT001 - a probe's answer
        if lease.state is _State.EXPIRED and passed:
            self._prolong(lease, trio.current_time())

    def _prolong(self, lease: Lease, now: float) -> None:
        """Let a lease that ran out last once more, however long it is not beyond the mode's longest time."""
        assert lease.ttl is not None
        self._timers.set(lease.timer, min(now + lease.ttl, self.preserve.latest_end))
        self._enter(lease, _State.KEPT)

    def _enter(self, lease: Lease, state: _State) -> None:
        self._live += (state is _State.LIVE) - (lease.state is _State.LIVE)
        lease.state = state
        self._want(lease)

    def _want(self, lease: Lease) -> None:
        instance = lease.instance
        if self._leases.get(instance.id) is lease:
            self._settler.want(
                instance.id,
                instance.generation,
                expired=lease.state is _State.EXPIRED,
                stale=lease.state is _State.KEPT,
            )

    # Time itself.

    def _tick(self, now: float, late: float) -> None:
        then, then_boot = self._clocks
        boot = self._boot_time()
        self._clocks = (now, boot)
        if (boot - then_boot) - (now - then) > SUSPENDED:
            _log.info("the machine was suspended: every lease lasts once in full from now on")
            self.grant_grace()
        if late >= LATE:
            self._hear_until = now + min(now - then, CATCH_UP)
        if late >= STALL:
            self._resume(now, late, now - then)

    def _resume(self, now: float, late: float, unheard: float) -> None:
        """Our loop stood still, or the process was stopped: let that time not have been, and mistrust the next."""
        was_active = self.preserve.active(now)
        self.preserve = self.preserve.stall(now, late)
        if not was_active and self.preserve.active(now):
            self._enter_preserve(now)
        for lease in self._leases.values():
            for timer in (lease.timer, lease.removal):
                if timer.due < math.inf:
                    self._timers.set(timer, max(timer.due + unheard, now + CATCH_UP))
