"""The registry: instances of services, who is there and how they are. What a method returned is committed."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import attrs
import trio

from econeura_daemon.core.clock import Clock, format_ms, to_ms
from econeura_daemon.core.errors import NotFoundError
from econeura_daemon.core.ids import new_id
from econeura_daemon.core.instances import EndpointBody
from econeura_daemon.core.jsons import dumps
from econeura_daemon.core.settings import DiscoverySettings
from econeura_daemon.events import EventLog
from econeura_daemon.registry.book import Book, Registered
from econeura_daemon.registry.commands import RegisterService, endpoints_of
from econeura_daemon.registry.leases import Leases
from econeura_daemon.registry.model import Change, Declaration, Endpoint, Instance, Registration, Status
from econeura_daemon.registry.settler import Settler
from econeura_daemon.registry.snapshot import Catalogue, Snapshot
from econeura_daemon.registry.timers import Timers
from econeura_daemon.registry.watch import Query, Watchers, Watches
from econeura_daemon.storage import Connection, Store

Also = Callable[[Connection, Registered], None]
RunLoop = Callable[[str, Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]
"""Wraps a loop in supervision: (name, loop) to something that a nursery can start."""

LAST_WRITES = 5.0
"""Seconds for what was found out before the end, when the block is left."""
DEREGISTERED = "deregistered"


def unsupervised(_name: str, loop: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Run a loop as it is."""
    return loop


@attrs.frozen
class FoundEndpoint:
    """An endpoint, and who offers it."""

    instance: Instance
    endpoint: Endpoint


class Registry:
    """See the module. Made by `open_registry`."""

    def __init__(
        self,
        *,
        store: Store,
        log: EventLog,
        settings: DiscoverySettings,
        daemon_id: str,
        clock: Clock,
        rng: Random,
        boot_time: Callable[[], float],
    ) -> None:
        self.timers = Timers()
        self._store = store
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._book = Book(
            daemon_id=daemon_id,
            log=log,
            clock=clock,
            rng=rng,
            applied=self._apply,
            last_heartbeat=self._last_heartbeat,
        )
        self.settler = Settler(store, self._book, clock)
        self.leases = Leases(
            self.timers,
            self.settler,
            clock,
            heartbeat_interval=settings.heartbeat_interval_ms / 1000,
            boot_time=boot_time,
        )
        self._followers: list[Callable[[Change], None]] = []
        self._catalogue = Catalogue(0, [])
        self.watches = Watches(0)
        self.unresolved: dict[str, str] = {}
        """Names of static services that cannot be resolved at present, and why."""

    def __repr__(self) -> str:
        return f"<Registry: {self._catalogue}, {self.watches}>"

    async def load(self) -> None:
        """Take up what an earlier run left."""
        index, instances = await self._store.transact(self._book.open)
        self._catalogue = Catalogue(index, instances)
        self.watches = Watches(index)
        self.leases.load(instances)

    def follow(self, follower: Callable[[Change], None]) -> None:
        """Have ``follower`` called on the loop for each committed change, in their order."""
        self._followers.append(follower)

    def _apply(self, change: Change) -> None:
        self._catalogue.apply(change)
        self.leases.follow(change)
        for follower in self._followers:
            follower(change)
        self.watches.note(change)

    # Reading: all of it in memory.

    @property
    def index(self) -> int:
        """Grows with each change, over restarts too."""
        return self._catalogue.index

    def snapshot(self) -> Snapshot:
        """Return all instances as they are now."""
        return self._catalogue.snapshot()

    def get(self, instance_id: str) -> Instance:
        """Return an instance. Raises `NotFoundError`."""
        found = self._catalogue.instances.get(instance_id)
        if found is None:
            raise NotFoundError("service", instance_id)
        return found

    def find(self, query: Query) -> list[Instance]:
        """Return the instances that match, by id."""
        if query.type is None:
            among: Any = self._catalogue.instances.values()
        else:
            among = self.snapshot().resolve(query.type)
        return sorted((one for one in among if query.matches(one)), key=lambda one: one.id)

    async def watch(self, query: Query, index: int, seconds: float) -> Watchers | None:
        """Return once the list of ``query`` is another one than at ``index``: see `Watches.wait`."""
        return await self.watches.wait(query, index, seconds)

    def shown(self, instance: Instance) -> dict[str, Any]:
        """Return an instance as lists show it, with its last heartbeat."""
        shown = instance.to_json(self._last_heartbeat(instance.id))
        why = self.unresolved.get(instance.registration.server_name or "")
        if why is not None:
            shown["statusReason"] += f"; its address is kept, for {why}"
        return shown

    def written(self, instance: Instance) -> bytes:
        """Return what `shown` does, as JSON."""
        if instance.registration.server_name in self.unresolved:
            return dumps(self.shown(instance))
        return instance.written(self._last_heartbeat(instance.id))

    def _last_heartbeat(self, instance_id: str) -> int | None:
        return self.leases.last_heartbeat(instance_id)

    def find_endpoints(
        self,
        *,
        description: str | None,
        method: str | None,
        type: str | None,  # noqa: A002 - the parameter
    ) -> list[FoundEndpoint]:
        """Return the endpoints that match, of every instance; ``description`` is looked for in it, in any case."""
        wanted = None if description is None else description.casefold()
        return [
            FoundEndpoint(instance, endpoint)
            for instance in self.find(Query(type))
            for endpoint in instance.endpoints
            if (method is None or endpoint.method == method)
            and (wanted is None or wanted in endpoint.description.casefold())
        ]

    def by_status(self) -> dict[str, int]:
        """Count instances by status; one in which there is none is 0."""
        counts = dict.fromkeys((status.value for status in Status), 0)
        for instance in self._catalogue.instances.values():
            counts[instance.status.value] += 1
        return counts

    def stats(self) -> dict[str, Any]:
        """Count instances, under the keys of ``GET /v1/discovery/stats``."""
        instances = list(self._catalogue.instances.values())
        by_status = self.by_status()
        return {
            "totalServices": len(instances),
            "healthyServices": by_status[Status.HEALTHY],
            "unhealthyServices": by_status[Status.UNHEALTHY],
            "unknownServices": by_status[Status.UNKNOWN],
            "drainingServices": by_status[Status.DRAINING],
            "staleServices": sum(one.health.stale for one in instances),
            "servicesByType": {
                type_: len(members) for type_, members in sorted(self.snapshot().types.items())
            },
            "totalEndpoints": sum(len(one.endpoints) for one in instances),
            "watchers": self.watches.waiting,
            "preserveMode": self.leases.preserve_mode(),
            "index": self.index,
        }

    def renew(self, instance_id: str) -> dict[str, Any]:
        """Take a heartbeat; return what the registrant is told. Raises `NotFoundError`."""
        lease = self.leases.renew(instance_id)
        if lease is None:
            raise NotFoundError("service", instance_id)
        assert lease.renewed_at is not None
        return {
            "id": instance_id,
            "status": lease.instance.status.value,
            "ttlMs": lease.instance.registration.ttl_ms,
            "lastHeartbeat": format_ms(lease.renewed_at),
        }

    # Writing.

    async def register(self, command: RegisterService, also: Also | None = None) -> Registered:
        """Enter an instance, or replace the one of its id; ``also`` runs in the same transaction.

        Raises `ConflictError` if the configuration declares the id, `RegistryFullError`.
        """
        made = new_id("svc", self._clock.now(), self._rng)
        registration = command.registration(made, self._settings.health_check_interval_ms)
        limit = self._settings.max_services
        return await self.enter(registration, endpoints_of(command.endpoints), also=also, limit=limit)

    async def enter(
        self,
        registration: Registration,
        endpoints: tuple[Endpoint, ...] = (),
        *,
        also: Also | None = None,
        limit: int | None = None,
    ) -> Registered:
        """Enter a registration as it is; ``limit``: see `Book.register`. Raises as `register` does."""
        now = to_ms(self._clock.now())

        def work(connection: Connection) -> Registered:
            registered = self._book.register(connection, registration, endpoints, now, limit=limit)
            if also is not None:
                also(connection, registered)
            return registered

        return await self._store.transact(work)

    async def deregister(self, instance_id: str, reason: str = DEREGISTERED) -> Instance:
        """Remove an instance for good; return what it was. Raises `NotFoundError`, `ConflictError` if it is static."""
        return await self._transact(self._book.deregister, instance_id=instance_id, reason=reason)

    async def drain(self, instance_id: str, *, draining: bool) -> Instance:
        """Begin or end maintenance. Raises `NotFoundError`."""
        return await self._transact(self._book.drain, instance_id=instance_id, draining=draining)

    async def put_endpoints(self, instance_id: str, bodies: tuple[EndpointBody, ...]) -> Instance:
        """Replace what an instance offers. Raises as `deregister` does."""
        endpoints = endpoints_of(bodies)
        return await self._transact(self._book.put_endpoints, instance_id=instance_id, endpoints=endpoints)

    async def declare(self, wanted: Sequence[Declaration]) -> list[str]:
        """Let the static instances be those that are wanted; return the ids that registrants held until now."""
        now = to_ms(self._clock.now())
        return await self._store.transact(lambda connection: self._book.declare(connection, wanted, now))

    async def _transact(self, deed: Callable[..., Instance], **arguments: Any) -> Instance:
        return await self._store.transact(partial(deed, now=to_ms(self._clock.now()), **arguments))


@asynccontextmanager
async def open_registry(
    *,
    store: Store,
    log: EventLog,
    settings: DiscoverySettings,
    daemon_id: str,
    clock: Clock,
    rng: Random,
    boot_time: Callable[[], float] = trio.current_time,
    supervised: RunLoop = unsupervised,
) -> AsyncGenerator[Registry]:
    """Keep the registry of one daemon for the length of the block."""
    registry = Registry(
        store=store,
        log=log,
        settings=settings,
        daemon_id=daemon_id,
        clock=clock,
        rng=rng,
        boot_time=boot_time,
    )
    await registry.load()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervised("registry", registry.timers.run))
        await nursery.start(supervised("registry.settler", registry.settler.run))
        try:
            yield registry
        finally:
            registry.watches.close()
            nursery.cancel_scope.cancel()
    with trio.move_on_after(LAST_WRITES, shield=True):
        await registry.settler.settle()
