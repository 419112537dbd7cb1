"""Connections kept for the next request, and the limits on how many requests are under way.

Every move costs the same however many hosts and connections there are. A host has its idle connections in the
order in which they went idle, the last one is used first; all idle connections stand in one such order besides,
and since each is kept equally long, the first of it is always the next to expire. A host that has nothing and
for which nobody waits is forgotten.
"""

from collections import OrderedDict, deque
from typing import Protocol

import attrs
import httpx
import trio

Key = tuple[object, ...]
"""Scheme, host, port and trust class: who may use a connection for whom."""


class Kept(Protocol):
    """What a pool keeps."""

    idle_since: float
    """By Trio's clock."""

    def is_quiet(self) -> bool:
        """Tell whether the peer has neither closed nor said anything since."""

    def close(self) -> None:
        """Close, at once."""


@attrs.frozen(kw_only=True)
class Limits:
    """How many. Who finds no room waits, in turn; beyond ``waiting`` nobody may."""

    per_host: int = 256
    """Requests under way at once."""
    in_all: int = 1024
    waiting: int = 10_000
    idle_per_host: int = 64
    """Connections kept."""
    idle_in_all: int = 8192


class Slots:
    """A number of slots, given out in the order in which they were asked for."""

    __slots__ = ("_lot", "capacity", "taken")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken = 0
        self._lot: trio.lowlevel.ParkingLot | None = None

    @property
    def waiting(self) -> int:
        return len(self._lot) if self._lot is not None else 0

    def take_nowait(self) -> bool:
        """Take a slot if one is free; then nobody can be waiting."""
        if self.taken < self.capacity:
            self.taken += 1
            return True
        return False

    async def wait(self) -> None:
        """Wait until a slot is handed over; a wait that is cancelled has none."""
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        await self._lot.park()

    def give_back(self) -> None:
        """Hand the slot to who waits longest, if anybody does."""
        if self._lot:
            self._lot.unpark()
        else:
            self.taken -= 1


class Host:
    """Who is called under one key."""

    __slots__ = ("idle", "key", "slots")

    def __init__(self, key: Key, capacity: int) -> None:
        self.key = key
        self.slots = Slots(capacity)
        self.idle: deque[Kept] = deque()


class Pool:
    """Lends connections: `enter`, perhaps `take`, then `keep` or `leave`."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._hosts: dict[Key, Host] = {}
        self._slots = Slots(self.limits.in_all)
        self._idle: OrderedDict[Kept, Host] = OrderedDict()
        self._waiting = 0
        self._closed = False

    @property
    def hosts(self) -> int:
        """Hosts that are called, or that a connection is kept to."""
        return len(self._hosts)

    @property
    def idle(self) -> int:
        """Connections kept."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Requests under way."""
        return self._slots.taken

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return self._waiting

    async def enter(self, key: Key, timeout: float | None = None) -> Host:
        """Take a slot for a request to ``key``; a checkpoint only where there is none free.

        Raises `httpx.PoolTimeout` when none came within ``timeout`` seconds, or too many wait already.
        """
        host = self._hosts.get(key)
        if host is None:
            host = self._hosts[key] = Host(key, self.limits.per_host)
        held = host.slots.take_nowait()
        if held and self._slots.take_nowait():
            return host
        if self._waiting >= self.limits.waiting:
            if held:
                host.slots.give_back()
            self._forget(host)
            raise httpx.PoolTimeout(f"{self._waiting} requests wait for a connection already")
        await self._wait(host, timeout, held=held)
        return host

    def take(self, host: Host) -> Kept | None:
        """Return a connection that is alive, as far as this end can know; the rest is closed."""
        while host.idle:
            kept = host.idle.pop()
            del self._idle[kept]
            if kept.is_quiet():
                return kept
            kept.close()
        return None

    def keep(self, host: Host, kept: Kept) -> None:
        """Give the slot back and keep the connection for the next request."""
        if (
            self._closed
            or len(host.idle) >= self.limits.idle_per_host
            or self._hosts.get(host.key) is not host
        ):
            kept.close()
        else:
            kept.idle_since = trio.current_time()
            host.idle.append(kept)
            self._idle[kept] = host
            if len(self._idle) > self.limits.idle_in_all:
                self._drop_oldest()
        self.leave(host)

    def leave(self, host: Host) -> None:
        """Give the slot back."""
        self._slots.give_back()
        host.slots.give_back()
        self._forget(host)

    def expire(self, before: float) -> None:
        """Close what has been idle since ``before`` (Trio's clock) or longer."""
        while self._idle and next(iter(self._idle)).idle_since <= before:
            self._drop_oldest()

    def disown(self, trust: object) -> None:
        """Close what is kept for a trust class that is no more; what is under way is closed when it ends."""
        gone = [host for host in self._hosts.values() if host.key[-1] is trust]
        for host in gone:
            del self._hosts[host.key]
            while host.idle:
                kept = host.idle.pop()
                del self._idle[kept]
                kept.close()

    def close(self) -> None:
        """Close what is kept, and from now on whatever comes back."""
        self._closed = True
        while self._idle:
            self._drop_oldest()

    async def _wait(self, host: Host, timeout: float | None, *, held: bool) -> None:
        # Waiting for a host's own slot takes nothing from the others; only who holds one waits for the rest.
        try:
            self._waiting += 1
            try:
                with trio.fail_after(float("inf") if timeout is None else timeout):
                    if not held:
                        await host.slots.wait()
                        held = True
                    if not self._slots.take_nowait():
                        await self._slots.wait()
            finally:
                self._waiting -= 1
        except BaseException as error:
            if held:
                host.slots.give_back()
            self._forget(host)
            if isinstance(error, trio.TooSlowError):
                raise httpx.PoolTimeout(
                    f"no connection was free within {round((timeout or 0) * 1000)} ms"
                ) from None
            raise

    def _drop_oldest(self) -> None:
        kept, host = self._idle.popitem(last=False)
        first = host.idle.popleft()
        assert first is kept
        kept.close()
        self._forget(host)

    def _forget(self, host: Host) -> None:
        if not host.idle and not host.slots.taken and self._hosts.get(host.key) is host:
            del self._hosts[host.key]
