"""The outgoing HTTP transport: httpx's port and a shorter way, over one pool of connections of our own.

HTTP/1.1, no redirects, no proxies from the environment, no cookies, no decompression: `httpx.AsyncClient` has
those, a transport does not. HTTP/2 and proxies are spoken by httpx's own transport where somebody asks for them.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import httpx
import trio

from econeura_daemon.wire.connect import Connector
from econeura_daemon.wire.connection import Connection
from econeura_daemon.wire.egress import EgressGuard
from econeura_daemon.wire.exchange import Exchange, StaleError
from econeura_daemon.wire.pool import Host, Pool
from econeura_daemon.wire.prepared import OverHttpx, Sink
from econeura_daemon.wire.requests import (
    SAFE_METHODS,
    Body,
    Target,
    framing,
    header_lines,
    request_line,
)
from econeura_daemon.wire.routes import Routes

if TYPE_CHECKING:
    from econeura_daemon.wire.delegates import Delegates

MAX_ANSWER_BYTES = 64 * 1024
"""Read of one answer, head included, before the connection is dropped."""


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends requests over pooled connections to checked addresses.

    Raises `httpx.TransportError` with a reason in words, or `EgressRefusedError`. The answer's stream must be
    read to its end or closed; bytes come raw, at most ``max_answer_bytes`` of them (None: as many as come), then
    `AnswerTooLargeError`. Extensions of a request:

    - ``timeout``: ``connect`` (seconds: look-up, TCP and TLS together), ``pool`` (for a free slot), ``read`` and
      ``write`` (one wait for the peer). The whole is bounded by the caller's own cancel scope.
    - ``repeatable``: True, if the server may be asked twice; False, if not; left out, a safe method may
      (RFC 9110 9.2.1). It matters for one case: the connection had been kept, and ended before one byte of an
      answer came. Then the request goes out once more on a new one, if its body is still at hand.

    A body that comes in pieces is sent while the answer is awaited; an answer that comes first ends the sending.
    """

    def __init__(
        self,
        connector: Connector,
        max_answer_bytes: int | None = MAX_ANSWER_BYTES,
        pool: Pool | None = None,
    ) -> None:
        self._connector = connector
        self._max_answer_bytes = max_answer_bytes
        self.pool = pool or Pool()
        self._routes: Routes | None = None
        self.delegates: Delegates | None = None
        """Who calls the hosts that have a route of their own; none until one has."""

    def __repr__(self) -> str:
        pool = self.pool
        return f"<GuardedTransport: {pool.hosts} origins, {pool.busy} busy, {pool.idle} idle>"

    def use(self, guard: EgressGuard) -> None:
        """Ask another guard from the next request on; what is under way ends on the connection that it has."""
        old = self._connector.guard
        self._connector.use(guard)
        self.pool.disown(old)
        if self.delegates is not None:
            self.delegates.retire_all()

    def route(self, routes: Routes) -> None:
        """Call hosts as ``routes`` say, from the next request on."""
        if routes == self._routes:
            return
        self._routes = routes or None
        if self.delegates is not None:
            self.delegates.retire_all()
        elif routes:
            from econeura_daemon.wire.delegates import Delegates

            self.delegates = Delegates(
                self._connector,
                max_answer_bytes=self._max_answer_bytes,
                kept=self.pool.limits.idle_in_all,
            )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return the answer's head, its body still to be read."""
        target = Target.of(request.url)
        if self._routes is not None and (route := self._routes.of(target)) is not None:
            assert self.delegates is not None
            return await self.delegates.send(request, target, route)
        method = request.method.encode("ascii")
        content, body = framing(request)
        line = request_line(method, request.url.raw_path)
        data = b"%b%b\r\n%b" % (line, header_lines(request.headers.raw), content)
        repeatable = request.extensions.get("repeatable")
        call = _Call(
            self,
            target,
            data,
            body,
            repeatable=request.method in SAFE_METHODS if repeatable is None else bool(repeatable),
            head_only=request.method == "HEAD",
            timeouts=request.extensions.get("timeout", {}),
        )
        await call.start()
        answer = WireAnswer(call)
        return httpx.Response(answer.status, headers=answer.headers, stream=answer, request=request)

    async def send(
        self,
        target: Target,
        head: bytes,
        body: bytes | Body,
        *,
        repeatable: bool,
        head_only: bool = False,
        timeouts: Mapping[str, float | None],
        body_timeout: float | None = None,
    ) -> "WireAnswer":
        """Send a request whose head is bytes already, and return its answer once the head stands.

        ``head``: from the request line to the last header, each line with its end; it says how ``body`` is framed.
        ``head_only``: the method is HEAD. ``body_timeout``: the ``read`` of ``timeouts`` once the head is there; until
        then the caller's own cancel scope may be enough. Routes of hosts do not hold here. Raises as
        `handle_async_request` does.
        """
        stream = body if isinstance(body, Body) else None
        data = b"%b\r\n%b" % (head, b"" if isinstance(body, Body) else body)
        call = _Call(
            self, target, data, stream, repeatable=repeatable, head_only=head_only, timeouts=timeouts
        )
        await call.start()
        if body_timeout is not None:
            call.exchange.read_timeout = body_timeout
        return WireAnswer(call)

    async def post(
        self, target: Target, head: bytes, body: bytes, sink: Sink, *, connect_timeout: float | None = None
    ) -> None:
        """Send a prepared request, as `Posting` says: none is built, and no response."""
        if self._routes is not None and self._routes.of(target) is not None:
            await OverHttpx(self).post(target, head, body, sink, connect_timeout=connect_timeout)
            return
        data = b"%b\r\n%b" % (head, body)
        call = _Call(self, target, data, None, repeatable=True, timeouts={"connect": connect_timeout})
        await call.start()
        exchange = call.exchange
        try:
            sink.begin(exchange.parser.status, exchange.parser.headers)
            while part := await exchange.more():
                if not sink.add(part):
                    break
        finally:
            call.end()

    async def aclose(self) -> None:
        """Close every connection that is not in use, and those in use when they are through."""
        self.pool.close()
        if self.delegates is not None:
            await self.delegates.aclose()

    async def drop_idle(self, before: float) -> None:
        """Close the connections that nobody has used since ``before`` (Trio's clock)."""
        self.pool.expire(before)
        await trio.lowlevel.checkpoint()
        if self.delegates is not None:
            await self.delegates.sweep(before)

    async def connect(self, target: Target, timeout: float | None) -> Connection:
        """Open a connection of one's own."""
        seconds = float("inf") if timeout is None else timeout
        return await self._connector.open(target.host, target.port, seconds, tls=target.tls, name=target.name)

    @property
    def trust(self) -> object:
        """The trust class: connections that this guard let through serve no other."""
        return self._connector.guard

    @property
    def max_answer_bytes(self) -> int | None:
        """The bound of one answer."""
        return self._max_answer_bytes


class _Call:
    """One request from the slot that it takes to the connection that it gives back."""

    __slots__ = (
        "_body",
        "_data",
        "_head_only",
        "_host",
        "_repeatable",
        "_target",
        "_timeouts",
        "_transport",
        "exchange",
    )

    exchange: Exchange

    def __init__(
        self,
        transport: GuardedTransport,
        target: Target,
        data: bytes,
        body: Body | None,
        *,
        repeatable: bool,
        head_only: bool = False,
        timeouts: Any,
    ) -> None:
        self._transport = transport
        self._target = target
        self._data = data
        self._body = body
        self._repeatable = repeatable
        self._head_only = head_only
        self._timeouts = timeouts
        self._host: Host | None = None

    async def start(self) -> None:
        """Send the request and wait for the head of its answer; on failure nothing is left."""
        transport, pool = self._transport, self._transport.pool
        self._host = await pool.enter(self._target.key(transport.trust), self._timeouts.get("pool"))
        connection: Connection | None = None
        try:
            connection = cast("Connection | None", pool.take(self._host))
            if connection is None or not await self._try(connection):
                if connection is not None:
                    connection.close()
                connection = await transport.connect(self._target, self._timeouts.get("connect"))
                await self._try(connection)  # a new one is never stale
        except BaseException:
            if connection is not None:
                connection.close()
            pool.leave(self._host)
            raise
        if self.exchange.reusable and not self.exchange.parser.parts:
            self.end()

    def end(self) -> None:
        """Give the connection back; where the answer was not read to its end, close it."""
        host, self._host = self._host, None
        if host is None:
            return
        exchange = self.exchange
        if exchange.reusable:
            exchange.connection.rest()
            self._transport.pool.keep(host, exchange.connection)
        else:
            exchange.connection.close()
            self._transport.pool.leave(host)

    async def _try(self, connection: Connection) -> bool:
        """Tell whether it succeeded; False where it may be tried on another connection."""
        self.exchange = exchange = Exchange(
            connection,
            head_only=self._head_only,
            max_bytes=self._transport.max_answer_bytes,
            read_timeout=self._timeouts.get("read"),
            write_timeout=self._timeouts.get("write"),
        )
        try:
            await exchange.send(self._data, self._body)
            await exchange.head()
        except StaleError as stale:
            begun = self._body is not None and self._body.begun
            if connection.used and not begun and (stale.untouched or self._repeatable):
                return False
            raise stale.reason from None
        return True


class WireAnswer(httpx.AsyncByteStream):
    """An answer's head, and its raw bytes. No generator, so nothing is left to the garbage collector."""

    def __init__(self, call: _Call) -> None:
        self._call: _Call | None = call
        exchange = call.exchange
        parser = exchange.parser
        self.status: int = parser.status
        self.headers: Sequence[tuple[bytes, bytes]] = parser.headers
        self._parts = parser.parts
        if exchange.reusable:  # all of it is here: the connection is for others
            self.end()

    @property
    def is_whole(self) -> bool:
        """Whether all of it is here already."""
        return self._call is None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = await self.more()
        if not part:
            raise StopAsyncIteration
        return part

    async def more(self) -> bytes:
        """Return the next bytes of the body, nothing at its end."""
        if self._parts:
            return self._parts.popleft()
        call = self._call
        if call is None:
            return b""
        try:
            part = await call.exchange.more()
        except BaseException:
            self.end()
            raise
        if not part:
            self.end()
        return part

    async def aclose(self) -> None:
        """See `end`."""
        self.end()

    def end(self) -> None:
        """Give the connection back; where the answer was not read to its end, close it."""
        call, self._call = self._call, None
        if call is not None:
            call.end()
