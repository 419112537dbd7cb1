"""Accepting connections and serving an application on them until it is time to stop."""

import errno
import ipaddress
import logging
import os
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import trio

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server.asgi import App
from econeura_daemon.server.certificates import open_context
from econeura_daemon.server.connection import Drain, HttpTelemetry
from econeura_daemon.server.context import Peer, ScopeOf
from econeura_daemon.server.gate import Gate
from econeura_daemon.server.http1_channel import PeerGoneError
from econeura_daemon.server.http1_connection import serve_connection
from econeura_daemon.server.lifespan import open_lifespan
from econeura_daemon.server.listeners import BACKLOG, Listener
from econeura_daemon.server.problems import Problem
from econeura_daemon.server.requests import FindPassage, HotRoutes
from econeura_daemon.server.rules.access import Authenticator
from econeura_daemon.server.rules.shed import RETRY_AFTER, Slots
from econeura_daemon.server.site import ServeConnection, Site
from econeura_daemon.server.tls import serving_tls
from econeura_daemon.server.upkeep import open_upkeep

log = logging.getLogger(__name__)

_OUT_OF = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_NOT_OURS = {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH}
"""What befell the connection that was being accepted (accept(2)); the next one may be well."""
_AT_ONCE = 64
"""Connections that are accepted before those that are open get their turn."""
_MUCH = 64 * 1024
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
        self._serve = serve
        self._nursery = nursery
        self._accepting = trio.CancelScope()
        self._refusing = 0
        self._by_peer: Counter[str] = Counter()
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
            self._take_queued(listener.socket, BACKLOG)
            listener.close()

    async def run(self) -> None:
        """Accept connections until `stop_accepting`."""
        with self._accepting:
            async with trio.open_nursery() as nursery:
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener.socket)

    async def _accept(self, source: socket.socket) -> None:
        while source.fileno() >= 0:
            await trio.lowlevel.wait_readable(source)
            error = self._take_queued(source, _AT_ONCE)
            if error in _OUT_OF:
                log.warning("cannot accept connections: %s", os.strerror(error))
                await trio.sleep(_REST)

    def _take_queued(self, source: socket.socket, most: int) -> int:
        """Accept what waits; return the error that ended it, 0 for none."""
        for _ in range(most):
            try:
                accepted, address = source.accept()
            except OSError as error:
                if error.errno in _NOT_OURS:
                    continue
                return error.errno or errno.EIO
            accepted.setblocking(False)
            self._admit(accepted, Peer.of(accepted.family, address), address)
        return 0

    def _admit(self, sock: socket.socket, peer: Peer, address: Any) -> None:
        settings = self._site.settings
        origin = "" if peer.is_unix else _origin(address[0])
        if self.connections >= settings.max_connections:
            limit = f"{settings.max_connections} connections are open, and that is the limit."
        elif origin and self._by_peer[origin] >= settings.max_connections_per_peer:
            limit = (
                f"{settings.max_connections_per_peer} connections from {origin} are open, "
                "and that is the limit for one peer."
            )
        else:
            if not peer.is_unix:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._by_peer[origin] += 1
            self._site.telemetry.http_connections.add(1)
            self._nursery.start_soon(self._serve_guarded, sock, peer, origin)
            return
        if self._refusing < _POLITELY_REFUSED and not self._speaks_tls(peer):
            self._refusing += 1
            self._nursery.start_soon(self._refuse, sock, limit)
        else:
            sock.close()

    async def _serve_guarded(self, sock: socket.socket, peer: Peer, origin: str) -> None:
        """Serve one connection; whatever becomes of it reaches no other."""
        try:
            await self._serve(sock, peer, self._site)
        except* (OSError, PeerGoneError) as gone:
            log.debug("a connection was lost: %s", gone.exceptions[0])
        except* Exception:
            log.exception("a connection failed")
        finally:
            self.connections -= 1
            self._by_peer[origin] -= 1
            if not self._by_peer[origin]:
                del self._by_peer[origin]
            self._site.telemetry.http_connections.add(-1)
            trio.lowlevel.notify_closing(sock)
            sock.close()

    def _speaks_tls(self, peer: Peer) -> bool:
        return bool(self._site.settings.tls_certificate) and not peer.is_unix

    async def _refuse(self, sock: socket.socket, limit: str) -> None:
        problem = Problem.of("overloaded", limit, headers=[(b"retry-after", RETRY_AFTER)])
        answer, _ = self._site.refusal(problem)
        try:
            with trio.move_on_after(1):
                sock.send(answer)
                sock.shutdown(socket.SHUT_WR)
                while True:  # to close on unread bytes might take the answer with it
                    await trio.lowlevel.wait_readable(sock)
                    if not sock.recv(_MUCH):
                        break
        except OSError:
            pass
        finally:
            self._refusing -= 1
            trio.lowlevel.notify_closing(sock)
            sock.close()


def _connection_for(settings: HttpSettings) -> ServeConnection:
    context = open_context(settings)
    return serve_connection if context is None else serving_tls(context)


def _origin(host: str) -> str:
    """Return what counts as one peer: an IPv4 address, or an IPv6 network of 64 bits, which is what a
    subscriber gets (RFC 6177).
    """
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))


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
    hot: HotRoutes | None = None,
    find_passage: FindPassage | None = None,
    connection: ServeConnection | None = None,
) -> AsyncGenerator[Server]:
    """Serve ``app``, and beside it ``hot``, behind the rules for the length of the block; it takes over the listeners.

    ``find_passage``: the way to elsewhere that a path leads to, if it is one.

    Leaving the block is a drain: nothing new is accepted, idle connections close, requests under way have
    ``drain_timeout_ms`` to end, and are cancelled then. The application's lifespan encloses it all.
    """
    drain = Drain()
    slots = Slots(settings.max_concurrent_requests, settings.max_concurrent_requests)
    gate = Gate(
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
        hot=hot,
        find_passage=find_passage,
    )
    try:
        async with open_lifespan(app) as state, open_upkeep(drain) as upkeep, trio.open_nursery() as nursery:
            site = Site(
                gate=gate,
                settings=settings,
                clock=clock,
                rng=rng,
                telemetry=telemetry,
                upkeep=upkeep,
                drain=drain,
                state=state,
            )
            server = Server(site, listeners, connection or _connection_for(settings), nursery)
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
