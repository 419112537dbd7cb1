"""Accepting connections and serving an application on them until it is time to stop."""

import errno
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from random import Random

import trio

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server.asgi import App
from econeura_daemon.server.connection import (
    Drain,
    HttpTelemetry,
    ServeConnection,
    Site,
    new_request_id,
)
from econeura_daemon.server.context import Peer, ScopeOf
from econeura_daemon.server.hypercorn_connection import serve_connection
from econeura_daemon.server.layers.access import Authenticator
from econeura_daemon.server.layers.shed import RETRY_AFTER, Slots
from econeura_daemon.server.lifespan import open_lifespan
from econeura_daemon.server.listeners import BACKLOG, Listener
from econeura_daemon.server.problems import Problem, raw_response
from econeura_daemon.server.stack import build_stack
from econeura_daemon.server.wire import PeerGoneError, Wire

log = logging.getLogger(__name__)

_OUT_OF = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_REST = 0.1
"""Seconds to wait for others to close something, when the machine is out of descriptors or memory; as Trio
does.
"""
_POLITELY_REFUSED = 64
"""Connections beyond the limit that are told so at the same time; any more are just closed."""


class Server:
    """A server at work."""

    def __init__(
        self, site: Site, listeners: Sequence[Listener], serve: ServeConnection, nursery: trio.Nursery
    ) -> None:
        self._site = site
        self._listeners = listeners
        self._sources = [trio.SocketListener(trio.socket.from_stdlib_socket(it.socket)) for it in listeners]
        self._serve = serve
        self._nursery = nursery
        self._accepting = trio.CancelScope()
        self._refusing = 0
        self.urls = [listener.url for listener in listeners]
        """Where it can be reached, with real ports."""
        self.connections = 0
        """Connections that are open now."""

    def __repr__(self) -> str:
        state = "draining" if self.draining.is_set() else "serving"
        return f"<Server: {state} {', '.join(self.urls)}, {self.connections} connections>"

    @property
    def draining(self) -> trio.Event:
        """Set once the server stops."""
        return self._site.drain.begun

    def stop_accepting(self) -> None:
        """Close the listening sockets and the idle connections; requests under way go on. Harmless when
        repeated.

        What the kernel has accepted already is served: closing a socket would reset what waits in its queue.
        """
        if self.draining.is_set():
            return
        self._accepting.cancel()
        self._site.drain.begin()
        for listener in self._listeners:
            self._take_queued(listener)
            listener.close()

    def _take_queued(self, listener: Listener) -> None:
        for _ in range(BACKLOG):
            try:
                accepted, _address = listener.socket.accept()
            except OSError:
                return
            accepted.setblocking(False)
            self._admit(trio.SocketStream(trio.socket.from_stdlib_socket(accepted)))

    async def run(self) -> None:
        """Accept connections until `stop_accepting`."""
        with self._accepting:
            async with trio.open_nursery() as nursery:
                for source in self._sources:
                    nursery.start_soon(self._accept, source)

    async def _accept(self, source: trio.SocketListener) -> None:
        while True:
            try:
                stream = await source.accept()
            except OSError as error:
                if error.errno not in _OUT_OF:
                    raise
                log.warning("cannot accept connections: %s", error.strerror)
                await trio.sleep(_REST)
                continue
            self._admit(stream)

    def _admit(self, stream: trio.SocketStream) -> None:
        if self.connections < self._site.settings.max_connections:
            self.connections += 1
            self._site.telemetry.http_connections.add(1)
            self._nursery.start_soon(self._serve_guarded, stream)
        elif self._refusing < _POLITELY_REFUSED:
            self._refusing += 1
            self._nursery.start_soon(self._refuse, stream)
        else:
            stream.socket.close()

    async def _serve_guarded(self, stream: trio.SocketStream) -> None:
        """Serve one connection; whatever becomes of it reaches no other."""
        try:
            peer = Peer.of(stream.socket.family, stream.socket.getpeername())
            await self._serve(stream, peer, self._site)
        except* (OSError, PeerGoneError) as gone:
            log.debug("a connection was lost: %s", gone.exceptions[0])
        except* Exception:
            log.exception("a connection failed")
        finally:
            self.connections -= 1
            self._site.telemetry.http_connections.add(-1)
            stream.socket.close()

    async def _refuse(self, stream: trio.SocketStream) -> None:
        problem = Problem.of(
            "overloaded",
            f"{self._site.settings.max_connections} connections are open, and that is the limit.",
            headers=[(b"retry-after", RETRY_AFTER)],
        )
        answer = raw_response(problem, new_request_id(self._site.rng), self._site.clock.now())
        try:
            with trio.move_on_after(1):
                wire = Wire(stream, 1)
                await wire.write(answer)
                await wire.hang_up()
        except (OSError, PeerGoneError):
            pass
        finally:
            self._refusing -= 1
            stream.socket.close()
        self._site.telemetry.request_done("-", None, problem.status, 0.0)


@asynccontextmanager
async def open_server(
    app: App,
    listeners: Sequence[Listener],
    settings: HttpSettings,
    *,
    clock: Clock,
    rng: Random,
    tokens: Authenticator,
    auth_required: bool,
    scope_of: ScopeOf,
    telemetry: HttpTelemetry,
    drain_timeout_ms: int,
    access_log: bool = False,
    connection: ServeConnection = serve_connection,
) -> AsyncGenerator[Server]:
    """Serve ``app`` behind the layers for the length of the block; it takes over the listeners.

    Leaving the block is a drain: nothing new is accepted, idle connections close, requests under way have
    ``drain_timeout_ms`` to end, and are cancelled then. The application's lifespan encloses it all.
    """
    drain = Drain()
    slots = Slots(settings.max_concurrent_requests, settings.max_concurrent_requests)
    stack = build_stack(
        app,
        settings,
        clock=clock,
        rng=rng,
        drain=drain,
        telemetry=telemetry,
        tokens=tokens,
        auth_required=auth_required,
        scope_of=scope_of,
        host_names=[name for listener in listeners for name in listener.names],
        slots=slots,
        access_log=access_log,
    )
    try:
        async with open_lifespan(app) as state, trio.open_nursery() as nursery:
            site = Site(
                app=stack,
                settings=settings,
                clock=clock,
                rng=rng,
                telemetry=telemetry,
                drain=drain,
                state=state,
            )
            server = Server(site, listeners, connection, nursery)
            nursery.start_soon(server.run)
            try:
                yield server
            finally:
                server.stop_accepting()
                nursery.cancel_scope.deadline = min(
                    nursery.cancel_scope.deadline, trio.current_time() + drain_timeout_ms / 1000
                )
    finally:
        for listener in listeners:
            listener.close()
