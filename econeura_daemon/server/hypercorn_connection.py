"""One HTTP/1.1 connection, served by Hypercorn's protocol class. The only file that knows Hypercorn.

Of Hypercorn 0.18 we use `H11Protocol` with its `HTTPStream`: bytes into ASGI and back. We do not use its
`TCPServer`, where its crashes and hangs live (`tests/http/test_server_hypercorn_facts.py` reproduces them):
sends that are shielded and never end, an idle task that races with the reader, a task group whose errors
reach every other connection. Nor its `ProtocolWrapper`, the way to h2c. Around the protocol stand:

- `Framer`: the protocol sees only well-formed requests, one at a time, no upgrades; so it never waits in its
  pause for pipelined requests, in which it would not notice that the client left;
- `Wire`: every write has a deadline and can be cancelled;
- an unbounded queue towards the application with our own back-pressure: Hypercorn's bounded one deadlocks
  when an application answers without reading a body of more than ten pieces.

A client that is gone cancels its handler. A client that has only stopped sending still gets the answer, if
that comes within `HALF_CLOSED_GRACE`: TCP does not tell the two apart.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from econeura_daemon.server.asgi import AsgiScope, Message, has_header
from econeura_daemon.server.connection import Site, new_request_id
from econeura_daemon.server.context import Peer
from econeura_daemon.server.exchange import Exchange
from econeura_daemon.server.framing import MAX_HEAD, Framer, Head, Refusal
from econeura_daemon.server.problems import Problem, raw_response
from econeura_daemon.server.wire import PeerGoneError, Wire

log = logging.getLogger(__name__)

HALF_CLOSED_GRACE = 2.0
"""Seconds that an answer may still take after the peer stopped sending."""
WINDOW = 256 * 1024
"""Bytes of a body that may wait for the application to read them."""
PIPELINE = 64 * 1024
"""Bytes of further requests that are read while one is being answered."""
_MANY = 2**31


async def serve_connection(stream: trio.SocketStream, peer: Peer, site: Site) -> None:
    """Serve one connection until it ends (a `ServeConnection`)."""
    async with trio.open_nursery() as nursery:
        await _Connection(stream, peer, site, nursery).run()


def _config() -> Config:
    config = Config()
    config.errorlog = None
    config.accesslog = None
    config.include_server_header = False
    config.keep_alive_max_requests = _MANY
    config.h11_max_incomplete_size = 2 * MAX_HEAD
    return config


async def _never_called(*_: object) -> None:
    """Stand where Hypercorn wants the application: our `_Connection.spawn_app` knows its own."""


class _Connection:
    """The loop over one connection's requests; also the task group that Hypercorn spawns handlers in."""

    def __init__(self, stream: trio.SocketStream, peer: Peer, site: Site, nursery: trio.Nursery) -> None:
        self._peer = peer
        self._site = site
        self._nursery = nursery
        self._wire = Wire(stream, site.settings.send_timeout_ms / 1000)
        self._framer = Framer()
        self._out = bytearray()
        self._exchange: Exchange | None = None
        self._is_refused = False
        socket = stream.socket
        client, server = socket.getpeername(), socket.getsockname()
        self._protocol = H11Protocol(
            _never_called,  # type: ignore[arg-type]
            _config(),
            WorkerContext(None),
            self,  # type: ignore[arg-type]
            ConnectionState(site.state.copy()),
            False,
            None if peer.is_unix else client[:2],
            (server, None) if peer.is_unix else server[:2],  # type: ignore[arg-type]
            self._from_protocol,
        )

    async def run(self) -> None:
        try:
            served = await self._serve()
        except PeerGoneError:
            served = False
        if served:
            # What was refused, or answered before its end, may still be arriving.
            if self._is_refused or self._framer.in_body or self._framer.buffered:
                await self._wire.hang_up()
            else:
                self._wire.send_end()
        else:
            self._nursery.cancel_scope.cancel()

    async def _serve(self) -> bool:
        """Serve requests; return True if the last answer was sent, False if the client left in the middle."""
        while True:
            head = await self._next_head()
            if head is None:
                return True
            exchange = self._exchange = Exchange(head)
            await self._pass_on(exchange, head.wire)
            if not await self._pump_body(exchange) or not await self._wait_until_over(exchange):
                return exchange.is_muted
            if not exchange.keeps_alive or self._wire.torn or self._site.drain.begun.is_set():
                return True

    async def _next_head(self) -> Head | None:
        """Return the next request's head; None when there is none and the connection is to be closed."""
        settings, framer = self._site.settings, self._framer
        deadline = trio.current_time() + settings.head_timeout_ms / 1000
        while True:
            head = framer.next_head()
            if isinstance(head, Head):
                return head
            if isinstance(head, Refusal):
                await self._refuse(head)
                return None
            if framer.buffered:
                with trio.move_on_at(deadline):
                    data = await self._wire.read()
                    if not data:
                        return None
                    framer.feed(data)
                    continue
                await self._refuse(Refusal("request-timeout", "The request's head did not arrive in time."))
                return None
            data = await self._read_idle()
            if not data:
                return None
            framer.feed(data)
            deadline = trio.current_time() + settings.head_timeout_ms / 1000

    async def _read_idle(self) -> bytes | None:
        """Wait for the first byte of a request; a connection that does nothing is closed when the server
        stops.
        """
        drain = self._site.drain
        if drain.begun.is_set() and self._exchange is not None:
            return None
        # One accepted at the very end may have sent its request already: take that, wait for no other.
        patience = 0.1 if drain.begun.is_set() else self._site.settings.keep_alive_timeout_ms / 1000
        with trio.move_on_after(patience) as waiting, drain.ends(waiting):
            return await self._wire.read()
        return None

    async def _pump_body(self, exchange: Exchange) -> bool:
        """Pass the body on as the application reads it; return False if it breaks off."""
        framer = self._framer
        while framer.in_body and not exchange.over.is_set():
            if exchange.unread > WINDOW:
                exchange.room = trio.Event()
                await exchange.room.wait()
                continue
            piece = framer.next_body()
            if isinstance(piece, Refusal):
                if not exchange.is_started:
                    exchange.is_muted = True
                    exchange.scope.cancel()
                    await self._refuse(piece)
                return False
            if piece is not None:
                await self._pass_on(exchange, piece)
                continue
            data = await self._wire.read()
            if data == b"":
                return False
            framer.feed(data or b"")
        return True

    async def _pass_on(self, exchange: Exchange, wire: bytes) -> None:
        """Give bytes to Hypercorn. Should it ever refuse what the framer let through, say so to the client."""
        await self._protocol.handle(RawData(wire))
        if exchange.is_finished and self._out:  # else the application's task is writing the end itself
            await self._flush(exchange)

    async def _wait_until_over(self, exchange: Exchange) -> bool:
        """Wait for the end of the answer; return False if the client leaves before."""
        while not exchange.over.is_set():
            if self._framer.buffered > PIPELINE:
                await exchange.over.wait()
                break
            data = await self._wire.read()
            if data == b"":
                with trio.move_on_after(0 if exchange.streams else HALF_CLOSED_GRACE):
                    await exchange.over.wait()
                return exchange.over.is_set()
            self._framer.feed(data or b"")
        return True

    async def _refuse(self, refusal: Refusal) -> None:
        """Answer what no application will see."""
        self._is_refused = True
        problem = Problem.of(refusal.slug, refusal.detail)
        self._site.telemetry.request_done("-", None, problem.status, 0.0)
        request_id = new_request_id(self._site.rng)
        log.info("refused a request", extra={"request_id": request_id, "problem": problem.slug})
        await self._wire.write(raw_response(problem, request_id, self._site.clock.now()))

    # What Hypercorn calls.

    async def spawn_app(
        self, _app: object, _config: Config, scope: AsgiScope, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Message], Awaitable[None]]:
        """Start the application on a request; return where its messages go."""
        exchange = self._exchange
        assert exchange is not None
        self._nursery.start_soon(self._call_app, exchange, scope, send)

        async def put(message: Message) -> None:
            # Hypercorn says it once it has the last bytes, which are not written yet: an application that ends
            # with its client would cancel them. `Exchange.take` says it once they are.
            if message["type"] != "http.disconnect":
                exchange.put(message)

        return put

    async def _from_protocol(self, event: Event) -> None:
        """Collect what is to be written, and note the end of an answer; `_flush` does the I/O."""
        exchange = self._exchange
        assert exchange is not None
        if isinstance(event, RawData):
            self._out += event.data
            exchange.is_started = True
        elif isinstance(event, Closed):
            exchange.is_finished = True
            exchange.keeps_alive = False
        elif isinstance(event, Updated) and event.idle:
            exchange.is_finished = True
            exchange.keeps_alive = True

    async def _flush(self, exchange: Exchange) -> None:
        """Write what Hypercorn had to say."""
        if self._out and not exchange.is_muted:
            data = bytes(self._out)
            self._out.clear()
            await self._write(data)
        self._settle(exchange)

    def _settle(self, exchange: Exchange) -> None:
        """Let the reader know, if the answer has ended."""
        if exchange.is_finished and not exchange.over.is_set():
            exchange.over.set()
            exchange.arrived.set()
            exchange.room.set()
            self._wire.interrupt()

    async def _write(self, data: bytes) -> None:
        """Write on behalf of a handler; it is cancelled if the client is gone."""
        try:
            await self._wire.write(data)
        except PeerGoneError:
            self._nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint()

    async def _call_app(
        self, exchange: Exchange, scope: AsgiScope, app_send: Callable[[Any], Awaitable[None]]
    ) -> None:
        scope["econeura.peer"] = self._peer
        may_continue = exchange.head.expects_continue

        async def receive() -> Message:
            nonlocal may_continue
            if may_continue and not exchange.is_started:
                await self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
            may_continue = False
            return await exchange.take()

        async def send(message: Message) -> None:
            if exchange.is_finished or exchange.is_muted:
                await trio.lowlevel.checkpoint()
                return
            is_whole = False
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if self._site.drain.begun.is_set() and not has_header(headers, b"connection"):
                    message = {**message, "headers": [*headers, (b"connection", b"close")]}
                is_whole = has_header(headers, b"content-length")
                exchange.streams = not is_whole
            await app_send(message)
            if is_whole:
                return  # the body follows at once: one write for both
            await self._flush(exchange)

        with exchange.scope:
            try:
                await self._site.app(scope, receive, send)
            except* Exception:
                log.exception("an error passed every layer")
        if not exchange.is_finished and not exchange.is_muted:
            await app_send(None)
            await self._flush(exchange)
        self._settle(exchange)  # the application's own time-out may have ended its last write
