"""What a server gives to each connection, and the seam at which the class that serves one is chosen."""

import uuid
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from random import Random
from typing import Any, Protocol

import attrs
import trio

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server.asgi import App
from econeura_daemon.server.context import Peer


class Level(Protocol):
    """A number that goes up and down."""

    def add(self, value: float) -> None:
        """Move it by ``value``."""
        ...


class HttpTelemetry(Protocol):
    """What is counted: `telemetry.Metrics`, seen from here."""

    @property
    def http_connections(self) -> Level:
        """Open connections."""
        ...

    @property
    def http_requests_in_flight(self) -> Level:
        """Requests being handled."""
        ...

    def request_done(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count one answered request; ``route`` is the application's pattern, None where none matched."""
        ...


class Drain:
    """Tells connections and streams that the server stops."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self._idle: set[trio.CancelScope] = set()

    def begin(self) -> None:
        """Set `begun` and end the waits of connections that do nothing."""
        self.begun.set()
        for scope in self._idle:
            scope.cancel()

    @contextmanager
    def ends(self, scope: trio.CancelScope) -> Generator[None]:
        """Cancel ``scope`` when the drain begins while the block is running."""
        self._idle.add(scope)
        try:
            yield
        finally:
            self._idle.discard(scope)


@attrs.frozen(kw_only=True)
class Site:
    """What all connections of a server share."""

    app: App
    settings: HttpSettings
    clock: Clock
    rng: Random
    telemetry: HttpTelemetry
    drain: Drain = attrs.field(factory=Drain)
    state: dict[str, Any] = attrs.field(factory=dict)
    """The application's lifespan state; each request's scope holds a shallow copy."""


ServeConnection = Callable[[trio.SocketStream, Peer, Site], Awaitable[None]]
"""Serve one connection until it ends; the caller closes the stream. It may raise: the caller guards the
others.
"""


def new_request_id(rng: Random) -> str:
    """Return the id of a request that brought none."""
    return uuid.UUID(int=rng.getrandbits(128), version=4).hex
