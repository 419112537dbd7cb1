"""HTTP/2 and proxies: spoken by httpx's own transport, for the hosts that the settings name.

One pool of httpcore's a host, for its work grows with the square of what one pool holds. A pool is let go of
as soon as anything but an answer read to its end came of it: httpcore gives no credit back for what was left
of an HTTP/2 answer, and a cancelled send may leave half a frame. Whatever else is under way there may end; the
next request connects anew.
"""

import ssl
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Any, cast

import attrs
import httpcore
import httpx
import trio

from econeura_daemon.core.hosts import literal_address
from econeura_daemon.wire.connect import Connector
from econeura_daemon.wire.exchange import AnswerTooLargeError
from econeura_daemon.wire.network import Network
from econeura_daemon.wire.pool import Key
from econeura_daemon.wire.requests import SAFE_METHODS, Target
from econeura_daemon.wire.routes import Route

MAX_CONNECTIONS = 64
"""To one host, under HTTP/1.1; HTTP/2 needs one."""
_LOST = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_CLOSING = 5.0
"""Seconds that closing may take at most; it takes none but for a bug."""


class Delegates:
    """Sends requests as their host's route says.

    Raises as `GuardedTransport` does, and takes the same extensions of a request.
    """

    def __init__(self, connector: Connector, *, max_answer_bytes: int | None, kept: int) -> None:
        self._connector = connector
        self._max_answer_bytes = max_answer_bytes
        self._kept = kept
        self._by_key: OrderedDict[Key, _Delegate] = OrderedDict()
        """The one used last stands last."""
        self._retired: set[_Delegate] = set()
        self._contexts: dict[bool, ssl.SSLContext] = {}

    @property
    def busy(self) -> int:
        """Requests under way."""
        return sum(one.busy for one in (*self._by_key.values(), *self._retired))

    @property
    def hosts(self) -> int:
        """Hosts that a connection is kept to."""
        return len(self._by_key)

    async def send(self, request: httpx.Request, target: Target, route: Route) -> httpx.Response:
        """Send a request and return the answer's head, its body still to be read."""
        address = literal_address(target.host)
        if address is not None:
            self._connector.guard.check(address)  # a proxy would not
        context = await self._context(http2=route.http2) if target.tls else None
        delegate = self._of(target, route, context)
        may_be_stale = delegate.served
        try:
            return await self._try(delegate, request)
        except _LOST:
            if not may_be_stale or not _repeatable(request):
                raise
        return await self._try(self._of(target, route, context), request)

    def retire_all(self) -> None:
        """Begin anew with the next request: who may be called, or how, has changed."""
        for delegate in list(self._by_key.values()):
            self._retire(delegate)

    async def sweep(self, before: float) -> None:
        """Close what is retired and through, and what nobody has used since ``before`` (Trio's clock)."""
        for delegate in list(self._by_key.values()):
            if delegate.used_at > before:
                break
            if not delegate.busy:
                self._retire(delegate)
        for delegate in [one for one in self._retired if not one.busy]:
            self._retired.discard(delegate)
            await delegate.close()

    async def aclose(self) -> None:
        """Close everything, also what is under way."""
        self.retire_all()
        while self._retired:
            await self._retired.pop().close()

    def _of(self, target: Target, route: Route, context: ssl.SSLContext | None) -> "_Delegate":
        key = target.key(route)
        delegate = self._by_key.get(key)
        if delegate is None:
            pool = _pool(route, self._connector, context)
            delegate = self._by_key[key] = _Delegate(key, _Transport(pool))
            if len(self._by_key) > self._kept:
                self._retire(next(iter(self._by_key.values())))
        else:
            self._by_key.move_to_end(key)
        delegate.used_at = trio.current_time()
        return delegate

    async def _try(self, delegate: "_Delegate", request: httpx.Request) -> httpx.Response:
        delegate.busy += 1
        try:
            response = await delegate.transport.handle_async_request(request)
        except BaseException:
            await self._through(delegate, complete=False)
            raise
        return httpx.Response(
            response.status_code,
            headers=response.headers.raw,
            stream=_AnswerBody(response, self._max_answer_bytes, partial(self._through, delegate)),
            request=request,
        )

    async def _through(self, delegate: "_Delegate", *, complete: bool) -> None:
        delegate.busy -= 1
        if complete:
            delegate.served = True
            if self._by_key.get(delegate.key) is delegate:
                self._by_key.move_to_end(delegate.key)
                delegate.used_at = trio.current_time()
        else:
            self._retire(delegate)
        if not delegate.busy and delegate in self._retired:
            self._retired.discard(delegate)
            await delegate.close()

    def _retire(self, delegate: "_Delegate") -> None:
        if self._by_key.get(delegate.key) is delegate:
            del self._by_key[delegate.key]
            self._retired.add(delegate)

    async def _context(self, *, http2: bool) -> ssl.SSLContext:
        # httpcore writes into a context which protocols it offers, so there is one for each choice.
        if http2 not in self._contexts:
            self._contexts[http2] = await trio.to_thread.run_sync(self._connector.make_context)
        return self._contexts[http2]


@attrs.define(eq=False)
class _Delegate:
    """One host's transport."""

    key: Key
    transport: httpx.AsyncBaseTransport
    busy: int = 0
    served: bool = False
    """An answer came to its end here, so the peer may be closing the connection just now."""
    used_at: float = 0.0

    async def close(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSING):
            await self.transport.aclose()


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's own over a pool of httpcore's: it has no argument for how connections are made."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool


def _pool(route: Route, connector: Connector, context: ssl.SSLContext | None) -> httpcore.AsyncConnectionPool:
    how: dict[str, Any] = {
        "ssl_context": context,
        "max_connections": MAX_CONNECTIONS,
        "http2": route.http2,
    }
    if route.proxy is None:
        return httpcore.AsyncConnectionPool(network_backend=Network(connector.open_tcp), **how)
    proxy = httpx.Proxy(route.proxy)
    url = proxy.url
    return httpcore.AsyncHTTPProxy(
        proxy_url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port or 80, target=b"/"),
        proxy_auth=proxy.raw_auth,
        network_backend=Network(connector.open_unchecked),
        **how,
    )


def _repeatable(request: httpx.Request) -> bool:
    said = request.extensions.get("repeatable")
    wanted = request.method in SAFE_METHODS if said is None else bool(said)
    return wanted and isinstance(request.stream, httpx.ByteStream)


class _AnswerBody(httpx.AsyncByteStream):
    """An answer's raw bytes, at most so many."""

    def __init__(self, response: httpx.Response, limit: int | None, through: Any) -> None:
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        self._stream = stream
        self._parts = cast("AsyncGenerator[bytes, None]", aiter(stream))
        self._limit = limit
        self._left = limit
        self._through = through
        self._ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        try:
            part = self._bounded(await anext(self._parts))
        except StopAsyncIteration:
            await self._end(complete=True)
            raise
        except BaseException:
            await self._end(complete=False)
            raise
        return part

    def _bounded(self, part: bytes) -> bytes:
        if self._left is None:
            return part
        if part and not self._left:
            raise AnswerTooLargeError(f"the answer is larger than {self._limit} bytes")
        part = part[: self._left]
        self._left -= len(part)
        return part

    async def aclose(self) -> None:
        """Let go of the answer; where it was not read to its end, of its connection too."""
        await self._end(complete=False)

    async def _end(self, *, complete: bool) -> None:
        if self._ended:
            return
        self._ended = True
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSING):
            await self._parts.aclose()
            await self._stream.aclose()
        await self._through(complete=complete)
