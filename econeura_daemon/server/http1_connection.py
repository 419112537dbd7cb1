"""One HTTP/1.1 connection: the loop over its requests, in one task.

A hot request whose body is here is answered without any ASGI message; all others go through an `Exchange`.
Either way the rules before the route are the gate's. The next request is looked at only when the last one is
answered, so answers cannot change places.
"""

import logging
import math
import socket
from typing import Any

import trio

from econeura_daemon.server.context import Peer
from econeura_daemon.server.framing import Framer, Head, Refusal
from econeura_daemon.server.http1_channel import Channel, PeerGoneError, PlainChannel, hang_up
from econeura_daemon.server.http1_exchange import Exchange
from econeura_daemon.server.http1_response import BODILESS, write_head
from econeura_daemon.server.problems import Problem
from econeura_daemon.server.requests import HotRoute, Request
from econeura_daemon.server.site import Site

log = logging.getLogger(__name__)

TURN = 16
"""Requests that are answered, one after the other, before others get their turn."""
_LAST_CALL = 0.1
"""Seconds in which one that was accepted at the very end may still send its request."""
_ASGI = {"version": "3.0", "spec_version": "2.4"}


async def serve_connection(sock: socket.socket, peer: Peer, site: Site) -> None:
    """Serve one connection in the clear (a `ServeConnection`)."""
    await serve_http1(PlainChannel(sock, site.settings.send_timeout_ms / 1000), sock, peer, site)


async def serve_http1(channel: Channel, sock: socket.socket, peer: Peer, site: Site) -> None:
    """Serve one connection over ``channel``, which ``sock`` is behind."""
    connection = Connection(channel, sock, peer, site)
    site.upkeep.enter(connection)
    try:
        await connection.run()
    finally:
        site.upkeep.leave(connection)


class Connection:
    """See the module."""

    def __init__(self, channel: Channel, sock: socket.socket, peer: Peer, site: Site) -> None:
        self.deadline = self.look_at = math.inf
        self.is_idle = False
        self.exchange: Exchange | None = None
        self._channel = channel
        self._fd = sock.fileno()
        self._peer = peer
        self._site = site
        self._framer = Framer()
        self._has_served = False
        self._head_begun = math.inf
        self._lingers = False
        if peer.is_unix:
            self._client, self._server = None, (sock.getsockname(), None)
            self._address = None
        else:
            self._client, self._server = sock.getpeername()[:2], sock.getsockname()[:2]
            self._address = self._server[0]

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._fd

    def wake(self) -> None:
        """Let `_more` look at the deadline and at the drain."""
        self._channel.interrupt()

    def left(self, *, is_reset: bool) -> None:
        """Let the application know that the client is gone, or at least sends no more."""
        if self.exchange is not None:
            self.exchange.leave(is_reset=is_reset)

    def _expect(self, deadline: float) -> None:
        """Have `wake` called at ``deadline``."""
        self.deadline = deadline
        if deadline < self.look_at:
            self._site.upkeep.look_sooner(self)

    async def run(self) -> None:
        """Serve until the client, or a refusal, or the drain ends it."""
        channel = self._channel
        try:
            is_in_order = await self._serve()
        except PeerGoneError:
            return
        self.deadline = math.inf
        if not is_in_order:
            return
        if self._lingers or self._framer.in_body or self._framer.buffered or channel.has_unread():
            await hang_up(channel)
        else:
            await channel.send_end()

    async def _serve(self) -> bool:
        """Return True after a whole last answer, False if the client left or an answer broke off."""
        framer, hot, drain = self._framer, self._site.gate.hot, self._site.drain.begun
        turns = 0
        while True:
            head = framer.next_head()
            if head is None:
                if not await self._more():
                    return True
                continue
            self.deadline = self._head_begun = math.inf
            if isinstance(head, Refusal):
                await self._refuse(head)
                return True
            route = None if head.query else hot.get((head.method, head.path))
            body = None if route is None or not self._site.gate.has_room else framer.whole_body()
            if route is not None and body is not None:
                keeps = await self._answer(head, route, body)
            else:
                exchange = await self._call_app(head)
                if not exchange.is_finished:
                    return await self._break_off(exchange)
                keeps = exchange.keeps_alive
            self._has_served = True
            if not keeps or drain.is_set():
                return True
            turns += 1
            if turns >= TURN:
                await trio.lowlevel.checkpoint()
                turns = 0

    async def _more(self) -> bool:
        """Wait for more of a head; return False if the connection is to be closed."""
        site, framer = self._site, self._framer
        now = trio.current_time()  # the sweep's own may be old, when the machine is late
        if framer.buffered:
            self._head_begun = min(self._head_begun, now)
            self._expect(self._head_begun + site.settings.head_timeout_ms / 1000)
        else:
            self._expect(now + site.settings.keep_alive_timeout_ms / 1000)
        while True:
            if not framer.buffered and site.drain.begun.is_set():
                if self._has_served:
                    return False
                self._expect(min(self.deadline, now + _LAST_CALL))
            self.is_idle = not framer.buffered
            data = await self._channel.receive()
            self.is_idle = False
            if data:
                framer.feed(data)
                return True
            if data is not None:
                return False
            if trio.current_time() >= self.deadline:
                if not framer.buffered:  # perhaps the machine was late, not the client
                    framer.feed(self._channel.receive_nowait())
                    return framer.buffered > 0
                await self._refuse(Refusal("request-timeout", "The request's head did not arrive in time."))
                return False

    async def _answer(self, head: Head, route: HotRoute, body: bytes) -> bool:
        """Answer a hot request in one write; return whether the connection is kept."""
        site = self._site
        gate = site.gate
        context = gate.identify(head.headers, head.first, self._peer)
        response = await gate.answer(
            Request(
                head.method, head.path, head.headers, head.first, self._peer, self._address, context, body
            ),
            route,
        )
        keeps = head.keeps_alive and not site.drain.begun.is_set()
        headers = response.headers
        if (b"connection", b"close") in headers:
            headers.remove((b"connection", b"close"))
            keeps = False
        last = b"x-request-id: %b\r\n" % context.request_id.encode()
        if response.status not in BODILESS:
            last += b"content-length: %d\r\n" % len(response.body)
        if not keeps:
            last += b"connection: close\r\n"
        await self._channel.send(write_head(response.status, site.date(), headers, last) + response.body)
        return keeps

    async def _call_app(self, head: Head) -> Exchange:
        """Let the application answer; it is cancelled if the client leaves."""
        site = self._site
        exchange = self.exchange = Exchange(head, self._framer, self._channel, site.date, site.drain)
        site.upkeep.watch(self)
        try:
            with exchange.scope:
                await site.gate(self._scope(head), exchange.receive, exchange.send)
        except Exception:
            log.exception("an error passed every rule")
        finally:
            site.upkeep.unwatch(self)
            self.exchange = None
        return exchange

    def _scope(self, head: Head) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1" if head.minor else "1.0",
            "method": head.method,
            "scheme": self._channel.scheme,
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers.copy(),
            "client": self._client,
            "server": self._server,
            "state": self._site.state.copy(),
            "extensions": {},
            "econeura.peer": self._peer,
        }

    async def _break_off(self, exchange: Exchange) -> bool:
        """End a request that was not answered: its body was no body, its client left, its answer stopped."""
        if exchange.refusal is None or exchange.has_begun:
            return False
        await self._refuse(exchange.refusal)
        return True

    async def _refuse(self, refusal: Refusal) -> None:
        """Answer what no application will see, or no more of."""
        answer, request_id = self._site.refusal(Problem.of(refusal.slug, refusal.detail))
        log.info("refused a request", extra={"request_id": request_id, "problem": refusal.slug})
        self._lingers = True
        await self._channel.send(answer)
