"""The daemon in its own registry: registered like any other service, with what it offers, and beating."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from urllib.parse import urlsplit

import trio

from econeura_daemon._version import VERSION
from econeura_daemon.api.app import ROUTES
from econeura_daemon.core.clock import Clock
from econeura_daemon.core.errors import NotFoundError, StoreError
from econeura_daemon.core.hosts import ascii_host
from econeura_daemon.core.ids import new_id
from econeura_daemon.core.instances import OWN_ID
from econeura_daemon.core.settings import DiscoverySettings
from econeura_daemon.events import Event
from econeura_daemon.events.passing import Passing
from econeura_daemon.registry import Registry
from econeura_daemon.registry.model import LEASE_INTERVALS, Endpoint, Registration

NAME = "econeura-daemon"
HEARTBEAT = "daemon.heartbeat"

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is bound to all is reached here too

_log = logging.getLogger(__name__)


class Itself:
    """Registers the daemon, keeps its lease, and tells those who follow the stream that it lives."""

    def __init__(
        self, registry: Registry, settings: DiscoverySettings, passing: Passing, clock: Clock, rng: Random
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._passing = passing
        self._clock = clock
        self._rng = rng

    def registration(self, urls: Sequence[str]) -> Registration | None:
        """Return how the daemon is registered, None where it listens on unix sockets only."""
        url = next((urlsplit(url) for url in urls if url.startswith("http")), None)
        if url is None or url.hostname is None or url.port is None:
            return None
        host = self._settings.advertised_host or _ANYWHERE.get(url.hostname, url.hostname)
        return Registration(
            id=OWN_ID,
            name=NAME,
            type=self._settings.service_type,
            host=ascii_host(host.lower()),
            port=url.port,
            scheme=url.scheme,
            version=VERSION,
            ttl_ms=LEASE_INTERVALS * self._settings.heartbeat_interval_ms,
        )

    async def run(
        self, urls: Sequence[str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Register, then beat for ever; whoever deregistered or replaced the daemon finds it registered anew."""
        said = self.registration(urls)
        if said is None:
            _log.info("the daemon listens on unix sockets only and is not in its own registry")
            await self._leave()
        else:
            await self._register(said)
        task_status.started()
        while True:
            await trio.sleep(self._settings.heartbeat_interval_ms / 1000)
            if said is not None:
                try:
                    await self._register(said)
                except StoreError as error:
                    _log.warning("the daemon could not register itself: %s", error)
            self._tell()

    async def _register(self, said: Registration) -> None:
        """Renew the lease, or where there is none, register."""
        offered = endpoints()
        found = self._registry.snapshot().resolve(said.type)
        if any(one.registration == said and one.endpoints == offered for one in found):
            self._registry.renew(said.id)  # also what an earlier run left: that is no news
        else:
            await self._registry.enter(said, offered)

    async def _leave(self) -> None:
        """Take out what an earlier run, which could be reached by others, left behind."""
        with suppress(NotFoundError):
            await self._registry.deregister(OWN_ID)

    def _tell(self) -> None:
        by_status = self._registry.by_status()
        counts = {"servicesCount": sum(by_status.values()), "healthyServices": by_status["healthy"]}
        now = self._clock.now()
        self._passing.tell(
            Event.make(
                id=new_id("evt", now, self._rng), type=HEARTBEAT, data=counts, now=now, source="daemon"
            )
        )


def endpoints() -> tuple[Endpoint, ...]:
    """Return what the daemon offers."""
    return tuple(
        Endpoint(
            endpoint=route.path,
            method=route.method,
            description=route.summary,
            requires_auth=route.scope is not None,
        )
        for route in ROUTES
    )
