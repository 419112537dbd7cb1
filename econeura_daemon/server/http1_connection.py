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
from econeura_daemon.server.http1_passes import Pass
from econeura_daemon.server.http1_response import write_answer
from econeura_daemon.server.problems import Problem
from econeura_daemon.server.requests import HotRoute, Request, Response
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
        self._is_in_order = True
        self._keep_alive_timeout = site.settings.keep_alive_timeout_ms / 1000
        self._now = trio.lowlevel.current_clock().current_time
        if peer.is_unix:
            self._client, self._server = None, (sock.getsockname(), None)
            self._address = None
        else:
            self._client, self._server = sock.getpeername()[:2], sock.getsockname()[:2]
            self._address = self._server[0]
        self._passes = site.passes.of(peer, self._address)

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
            await self._serve()
        except PeerGoneError:
            return
        self.deadline = math.inf
        if not self._is_in_order:
            return
        if self._lingers or self._framer.in_body or self._framer.buffered or channel.has_unread():
            await hang_up(channel)
        else:
            await channel.send_end()

    async def _serve(self) -> None:
        """Return after the last answer; the stream is no longer in order if that was not a whole one."""
        framer, gate, drain = self._framer, self._site.gate, self._site.drain.begun
        turns = 0
        while True:
            head = framer.next_head()
            if head is not None:
                keeps = await self._handle(head)
            else:
                data = await self._more()
                if data is None:
                    return
                passed = None if framer.buffered or not gate.has_room else self._passes.find(data)
                if passed is None:
                    framer.feed(data)
                    continue
                keeps = await self._answer_passed(*passed)
            if not keeps or drain.is_set():
                return
            self._has_served = True
            turns += 1
            if turns >= TURN:
                await trio.lowlevel.checkpoint()
                turns = 0

    async def _handle(self, head: Head | Refusal) -> bool:
        """Answer a request, or refuse what is none; return whether the connection is kept."""
        self.deadline = self._head_begun = math.inf
        if isinstance(head, Refusal):
            await self._refuse(head)
            return False
        gate, framer = self._site.gate, self._framer
        route = gate.hot.find(head.method, head.path, head.query)
        body = None if route is None or route.waits or not gate.has_room else framer.whole_body()
        if route is not None and body is not None:
            return await self._answer(head, route, body)
        exchange = await self._exchange(head)
        if not exchange.is_finished:
            await self._break_off(exchange)
            return False
        return exchange.keeps_alive

    async def _more(self) -> bytes | None:
        """Wait for more of a head, and return it; None: the connection is to be closed."""
        site, framer = self._site, self._framer
        now = self._now()  # the sweep's own may be old, when the machine is late
        has_begun = framer.buffered > 0
        if has_begun:
            self._head_begun = min(self._head_begun, now)
            self._expect(self._head_begun + site.settings.head_timeout_ms / 1000)
        else:
            self._expect(now + self._keep_alive_timeout)
        while True:
            if not has_begun and site.drain.begun.is_set():
                if self._has_served:
                    return None
                self._expect(min(self.deadline, now + _LAST_CALL))
            self.is_idle = not has_begun
            data = await self._channel.receive()
            self.is_idle = False
            if data:
                return data
            if data is not None:
                return None
            if self._now() >= self.deadline:
                if not has_begun:  # perhaps the machine was late, not the client
                    return self._channel.receive_nowait() or None
                await self._refuse(Refusal("request-timeout", "The request's head did not arrive in time."))
                return None

    async def _answer(self, head: Head, route: HotRoute, body: bytes) -> bool:
        """Answer a hot request; return whether the connection is kept."""
        gate = self._site.gate
        request = self._request(head, body)
        context = request.context
        response = await gate.answer(request, route)
        if context.route is not None:  # it got there
            self._passes.add(head, route, context.principal)
        return await self._send_whole(head, request, response)

    async def _answer_passed(self, passed: Pass, body: bytes) -> bool:
        """Answer a hot request whose head the rules know; return whether the connection is kept."""
        self.deadline = math.inf
        gate, head = self._site.gate, passed.head
        context = gate.identify.anew(self._peer, passed.principal)
        request = Request(
            head.method,
            head.path,
            head.headers,
            head.first,
            self._peer,
            self._address,
            context,
            body,
            head.query,
        )
        response = await gate.answer(request, passed.route, is_passed=True)
        return await self._send_whole(head, request, response)

    async def _send_whole(self, head: Head, request: Request, response: Response) -> bool:
        """Answer in one write; return whether the connection is kept."""
        site = self._site
        headers = response.headers
        keeps = head.keeps_alive and not site.drain.begun.is_set()
        if (b"connection", b"close") in headers:
            headers.remove((b"connection", b"close"))
            keeps = False
        request_id = request.context.request_id
        await self._channel.send(
            write_answer(response.status, site.date(), headers, request_id, response.body, keeps=keeps)
        )
        return keeps

    async def _exchange(self, head: Head) -> Exchange:
        """Let a passage or the application answer; it is cancelled if the client leaves."""
        site, gate = self._site, self._site.gate
        body = self._framer.whole_body()
        exchange = self.exchange = Exchange(
            head, self._framer, self._channel, site.date, site.drain, body=body
        )
        passage = None if body is None or not gate.has_room else gate.find_passage(head.path)
        site.upkeep.watch(self)
        try:
            with exchange.scope:
                if passage is not None and body is not None:
                    await gate.pass_on(self._request(head, body), passage, exchange)
                else:
                    scope = self._scope(head, is_whole=body is not None)
                    await gate(scope, exchange.receive, exchange.send)
        except Exception:
            log.exception("an error passed every rule")
        finally:
            site.upkeep.unwatch(self)
            self.exchange = None
        return exchange

    def _request(self, head: Head, body: bytes) -> Request:
        return Request(
            head.method,
            head.path,
            head.headers,
            head.first,
            self._peer,
            self._address,
            self._site.gate.identify(head.headers, head.first, self._peer),
            body,
            head.query,
            head.raw_path,
            self._channel.scheme,
            self._client,
        )

    def _scope(self, head: Head, *, is_whole: bool) -> dict[str, Any]:
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
            "econeura.is_whole": is_whole,
        }

    async def _break_off(self, exchange: Exchange) -> None:
        """End a request that was not answered: its body was no body, its client left, its answer stopped."""
        if exchange.refusal is None or exchange.has_begun:
            self._is_in_order = False
        else:
            await self._refuse(exchange.refusal)

    async def _refuse(self, refusal: Refusal) -> None:
        """Answer what no application will see, or no more of."""
        answer, request_id = self._site.refusal(Problem.of(refusal.slug, refusal.detail))
        log.info("refused a request", extra={"request_id": request_id, "problem": refusal.slug})
        self._lingers = True
        await self._channel.send(answer)
