"""Static services: the instances that the configuration declares, by address or by name, are in the registry.

A name's addresses are looked up again and again, as Envoy's STRICT_DNS does. An answer counts as a whole: what is in
it is there, what is not is gone. A look-up that fails is no answer, and neither is an empty one: a name server in
trouble must not take every instance away, and if they are gone indeed, their checks tell.
"""

import logging
from typing import Any

import httpx
import trio

from econeura_daemon.core.errors import StoreError
from econeura_daemon.core.settings import DiscoverySettings, ServiceSettings
from econeura_daemon.registry.commands import declarations_of
from econeura_daemon.registry.model import Declaration
from econeura_daemon.registry.registry import Registry
from econeura_daemon.registry.settler import PAUSE
from econeura_daemon.registry.watch import Query
from econeura_daemon.wire.resolver import Resolve

PATIENCE = 5.0
"""Seconds for one look-up: resolv.conf(5) waits as long for each name server."""
MAX_ADDRESSES = 256
"""Of one name that are instances: an answer of the DNS holds some hundred at most."""

_log = logging.getLogger(__name__)


class Declared:
    """Keeps the registry as the configuration says."""

    def __init__(
        self,
        registry: Registry,
        resolve: Resolve,
        settings: DiscoverySettings,
        services: tuple[ServiceSettings, ...],
    ) -> None:
        self._registry = registry
        self._resolve = resolve
        self._settings = settings
        self._services = services
        self._changed = trio.Event()
        self._addresses: dict[str, tuple[str, ...]] = {}
        """By name, as the last look-up that succeeded told, of an earlier run too."""

    def __repr__(self) -> str:
        return (
            f"<Declared: {len(self._services)} services, {len(self._registry.unresolved)} names unresolved>"
        )

    def use(self, services: tuple[ServiceSettings, ...]) -> None:
        """Let the configuration be another one from now on."""
        if services != self._services:
            self._services = services
            self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Declare, for ever; it has started once all is there that needs no look-up.

        Raises `StoreError` if the first time does not succeed.
        """
        self._remember()
        await self._declare()
        task_status.started()
        while True:
            self._changed = trio.Event()
            await self._look_up()
            pause = await self._try_to_declare()
            with trio.move_on_after(pause):
                await self._changed.wait()
            await self._try_to_declare()  # what is new, before any look-up

    def _remember(self) -> None:
        """Take up the addresses that an earlier run found."""
        found: dict[str, list[str]] = {}
        for instance in self._registry.find(Query()):
            name = instance.registration.server_name
            if instance.is_static and name is not None:
                found.setdefault(name, []).append(instance.registration.host)
        self._addresses = {name: tuple(sorted(set(addresses))) for name, addresses in found.items()}

    async def _try_to_declare(self) -> float:
        """Declare; return how many seconds later to do so again."""
        try:
            await self._declare()
        except StoreError as error:
            _log.warning("the static services could not be declared: %s", error)
            return PAUSE
        return self._settings.resolve_interval_ms / 1000 if self._names() else float("inf")

    async def _declare(self) -> None:
        taken = await self._registry.declare(list(self._wanted().values()))
        if taken:
            _log.warning(
                "the configuration declares what registrants had registered, and replaces it: %s",
                ", ".join(taken),
            )

    def _wanted(self) -> dict[str, Declaration]:
        wanted: dict[str, Declaration] = {}
        interval_ms = self._settings.health_check_interval_ms
        for service in sorted(self._services, key=lambda one: one.resolve):  # an id that is written wins
            for one in declarations_of(service, self._addresses.get(service.dns_name, ()), interval_ms):
                wanted.setdefault(one.registration.id, one)
        return wanted

    # Looking names up.

    def _names(self) -> set[str]:
        return {service.dns_name for service in self._services if service.resolve}

    async def _look_up(self) -> None:
        names = self._names()
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(self._look_up_one, name)
        self._addresses = {name: self._addresses[name] for name in names & self._addresses.keys()}
        unresolved = self._registry.unresolved
        self._registry.unresolved = {name: unresolved[name] for name in names & unresolved.keys()}

    async def _look_up_one(self, name: str) -> None:
        why = f"the name {name!r} was not resolved within {PATIENCE:g} s"
        with trio.move_on_after(PATIENCE):
            try:
                found = {str(address) for address in await self._resolve(name)}
                why = "" if found else f"the name {name!r} has no address"
            except httpx.ConnectError as error:
                why = str(error)
        self._tell(name, why)
        if not why:
            if len(found) > MAX_ADDRESSES:
                _log.warning("the name %r has %d addresses: %d are used", name, len(found), MAX_ADDRESSES)
            self._addresses[name] = tuple(sorted(found)[:MAX_ADDRESSES])

    def _tell(self, name: str, why: str) -> None:
        """Say in the log, in the instances' reasons and in the health what a look-up came to, if that is new."""
        before = self._registry.unresolved.get(name, "")
        if why:
            if not before:
                _log.warning("%s; what is known of it stays", why)
            self._registry.unresolved[name] = why
        elif before:
            _log.info("the name %r is resolved again", name)
            del self._registry.unresolved[name]
