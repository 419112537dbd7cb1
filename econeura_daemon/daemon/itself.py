"""The daemon in its own registry: registered like any other service, with what it offers, and beating."""

import logging
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import trio

from econeura_daemon._version import VERSION
from econeura_daemon.api.app import ROUTES
from econeura_daemon.core.errors import NotFoundError, StoreError
from econeura_daemon.core.settings import DiscoverySettings
from econeura_daemon.registry import Registry
from econeura_daemon.registry.model import LEASE_INTERVALS, Endpoint, Registration

ID = "api-main"
NAME = "econeura-daemon"

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is bound to all is reached here too

_log = logging.getLogger(__name__)


class Itself:
    """Registers the daemon and keeps its lease."""

    def __init__(
        self,
        registry: Registry,
        settings: DiscoverySettings,
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        """``tell`` takes the data of each ``daemon.heartbeat``."""
        self._registry = registry
        self._settings = settings
        self._tell = tell

    def registration(self, urls: Sequence[str]) -> Registration | None:
        """Return how the daemon is registered, None where it listens on unix sockets only."""
        url = next((urlsplit(url) for url in urls if url.startswith("http")), None)
        if url is None or url.hostname is None or url.port is None:
            return None
        return Registration(
            id=ID,
            name=NAME,
            type=self._settings.service_type,
            host=_ANYWHERE.get(url.hostname, url.hostname),
            port=url.port,
            scheme=url.scheme,
            version=VERSION,
            ttl_ms=LEASE_INTERVALS * self._settings.heartbeat_interval_ms,
        )

    async def run(
        self, urls: Sequence[str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Register, then beat for ever; whoever deregistered the daemon finds it registered anew."""
        said = self.registration(urls)
        if said is None:
            _log.info("the daemon listens on unix sockets only and is not in its own registry")
        else:
            await self._register(said)
        task_status.started()
        while True:
            await trio.sleep(self._settings.heartbeat_interval_ms / 1000)
            if said is not None:
                await self._beat(said)
            stats = self._registry.stats()
            self._tell({"servicesCount": stats["totalServices"], "healthyServices": stats["healthyServices"]})

    async def _beat(self, said: Registration) -> None:
        try:
            self._registry.renew(ID)
        except NotFoundError:
            try:
                await self._register(said)
            except StoreError as error:
                _log.warning("the daemon could not register itself: %s", error)

    async def _register(self, said: Registration) -> None:
        offered = endpoints()
        found = self._registry.snapshot().resolve(said.type)
        if any(one.registration == said and one.endpoints == offered for one in found):
            self._registry.renew(said.id)  # as an earlier run left it: that is no news
        else:
            await self._registry.enter(said, offered)


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
