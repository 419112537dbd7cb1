"""The outgoing HTTP transport: httpx's port, httpcore's HTTP/1.1, our connections.

httpcore's pool looks at all of its connections and requests on every move, so its cost is quadratic in them:
here each origin has a pool of its own. Pools that nobody uses are dropped after a while, and early when they
are many. No redirects, no proxies from the environment, no cookies, no decompression: `httpx.AsyncClient` has
those, a transport does not.
"""

import ssl
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import attrs
import httpcore
import httpx
import trio

from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.wire.connect import Connector, MakeContext
from econeura_daemon.wire.egress import EgressGuard
from econeura_daemon.wire.resolver import Resolve, open_resolver
from econeura_daemon.wire.streams import AnswerTooLargeError, CountingStream

IDLE_SECONDS = 30.0
"""How long a connection, and the pool of an origin, is kept unused. Receivers keep theirs for 5 to 75 s."""
MAX_IDLE_POOLS = 256
MAX_IDLE_PER_POOL = 10
MAX_ANSWER_BYTES = 64 * 1024
"""Read of one answer, head included, before the connection is dropped."""

Origin = tuple[bytes, bytes, int]
_DEFAULT_PORTS = {b"http": 80, b"https": 443}

_MEANING: tuple[tuple[type[Exception], type[httpx.TransportError], str], ...] = (
    (httpcore.ReadTimeout, httpx.ReadTimeout, ""),
    (httpcore.WriteTimeout, httpx.WriteTimeout, ""),
    (httpcore.ReadError, httpx.ReadError, ""),
    (httpcore.WriteError, httpx.WriteError, ""),
    (httpcore.RemoteProtocolError, httpx.RemoteProtocolError, "the answer is not HTTP/1.1: "),
    (httpcore.LocalProtocolError, httpx.LocalProtocolError, "the request cannot be sent: "),
)


@attrs.define(eq=False)
class _OriginPool:
    """The connections to one origin; ``users``: requests and unread answers."""

    pool: httpcore.AsyncConnectionPool
    users: int = 0
    idle_since: float = 0.0


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends requests over pooled connections to checked addresses.

    Raises `httpx.TransportError` with a reason in words, or `EgressRefusedError`. The answer's stream must be
    closed; bytes come raw, at most ``max_answer_bytes`` of them, then `AnswerTooLargeError`. The extension
    ``timeout`` may hold ``connect`` (seconds: look-up, TCP and TLS together); all else is bounded by the
    caller's own cancel scope.
    """

    def __init__(self, connector: Connector, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._connector = connector
        self._backend = _Backend(connector, max_answer_bytes)
        self._pools: OrderedDict[Origin, _OriginPool] = OrderedDict()  # the least recently used first
        self._retired: list[_OriginPool] = []

    def __repr__(self) -> str:
        busy = sum(1 for pool in self._pools.values() if pool.users)
        return f"<GuardedTransport: {len(self._pools)} origins, {busy} busy>"

    def use(self, guard: EgressGuard) -> None:
        """Ask another guard from the next request on; what is under way ends on the connection that it has."""
        self._connector.use(guard)
        self._retired += self._pools.values()  # their connections went past the old guard
        self._pools.clear()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return the answer's head, its body still to be read."""
        url = request.url
        if url.raw_scheme not in _DEFAULT_PORTS:
            raise httpx.UnsupportedProtocol(f"expected http or https, got {url.scheme!r}")
        origin = (url.raw_scheme, url.raw_host, url.port or _DEFAULT_PORTS[url.raw_scheme])
        pool = await self._enter(origin)
        outgoing = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=origin[0], host=origin[1], port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=_in_one(request.stream),
            extensions=request.extensions,
        )
        try:
            with _in_words():
                answer = await pool.pool.handle_async_request(outgoing)
        except BaseException:
            self._leave(pool)
            raise
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(self, pool, answer), request=request
        )

    async def aclose(self) -> None:
        """Close every connection."""
        pools = [*self._pools.values(), *self._retired]
        self._pools.clear()
        self._retired.clear()
        await self._close(pools)

    async def drop_idle(self, before: float) -> None:
        """Close the pools that nobody has used since ``before`` (Trio's clock), and those of an old guard."""
        idle = [key for key, pool in self._pools.items() if not pool.users and pool.idle_since <= before]
        unused = [pool for pool in self._retired if not pool.users]
        self._retired = [pool for pool in self._retired if pool.users]
        await self._close([self._pools.pop(key) for key in idle] + unused)

    async def _enter(self, origin: Origin) -> _OriginPool:
        context = await self._connector.context() if origin[0] == b"https" else None
        pool = self._pools.get(origin)
        if pool is not None:
            pool.users += 1
            self._pools.move_to_end(origin)
            return pool
        pool = self._pools[origin] = _OriginPool(_new_pool(self._backend, context), users=1)
        surplus = len(self._pools) - MAX_IDLE_POOLS
        if surplus > 0:
            idle = [key for key, other in self._pools.items() if not other.users][:surplus]
            try:
                await self._close([self._pools.pop(key) for key in idle])
            except BaseException:
                self._leave(pool)
                raise
        return pool

    def _leave(self, pool: _OriginPool) -> None:
        pool.users -= 1
        pool.idle_since = trio.current_time()

    @staticmethod
    async def _close(pools: Iterable[_OriginPool]) -> None:
        for pool in pools:
            await pool.pool.aclose()  # shields itself; closing a socket waits for nobody


class _Body(httpx.AsyncByteStream):
    """An answer's raw bytes. No generator of ours, so nothing is left to the garbage collector."""

    def __init__(self, transport: GuardedTransport, pool: _OriginPool, answer: httpcore.Response) -> None:
        self._transport = transport
        self._pool: _OriginPool | None = pool
        self._connection = answer.extensions.get("network_stream")
        self._answer = answer
        self._parts = aiter(answer.stream)  # type: ignore[arg-type] # one type for sync and async

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._pool is None:
            raise StopAsyncIteration
        try:
            with _in_words():
                return await anext(self._parts)
        except BaseException:  # the answer's end is one of them
            await self._end()
            raise

    async def aclose(self) -> None:
        """Give the connection back; where the answer was not read to its end, close it."""
        if self._pool is None:
            return
        # Breaking off httpcore's nested generators would leave the inner ones to the garbage collector. With
        # reading refused they run to their end by themselves, and close the connection on the way.
        if isinstance(self._connection, CountingStream):
            self._connection.refuse_reading()
        with trio.CancelScope(shield=True):  # bounded: only what is buffered already is gone through
            try:
                with suppress(AnswerTooLargeError, httpcore.ProtocolError, httpcore.NetworkError):
                    async for _ in self._parts:
                        pass
            finally:
                await self._end()

    async def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            self._transport._leave(pool)  # noqa: SLF001 - the other half of one story
            await self._answer.aclose()  # shields itself


class _Backend(httpcore.AsyncNetworkBackend):
    """Hands httpcore connections that went past the guard."""

    def __init__(self, connector: Connector, max_answer_bytes: int) -> None:
        self._connector = connector
        self._max_answer_bytes = max_answer_bytes

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - httpcore's signature
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        budget = float("inf") if timeout is None else timeout
        deadline = trio.current_time() + budget
        stream = await self._connector.open_tcp(host, port, budget)
        return CountingStream(stream, self._connector, self._max_answer_bytes, deadline)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


@asynccontextmanager
async def open_transport(
    settings: WebhookSettings, *, resolve: Resolve | None = None, make_context: MakeContext | None = None
) -> AsyncGenerator[GuardedTransport]:
    """Offer the transport for the length of the block; at its end every connection is closed.

    ``resolve`` and ``make_context`` stand in for the system's resolver and its trusted certificates.
    """
    async with open_resolver() as system, trio.open_nursery() as nursery:
        guard = EgressGuard(settings.allowed_networks)
        connector = Connector(guard, resolve or system, make_context or ssl.create_default_context)
        transport = GuardedTransport(connector)
        nursery.start_soon(_drop_idle_for_ever, transport)
        try:
            yield transport
        finally:
            nursery.cancel_scope.cancel()
            await transport.aclose()


async def _drop_idle_for_ever(transport: GuardedTransport) -> None:
    while True:
        await trio.sleep(IDLE_SECONDS / 3)
        await transport.drop_idle(trio.current_time() - IDLE_SECONDS)


def _new_pool(backend: _Backend, context: ssl.SSLContext | None) -> httpcore.AsyncConnectionPool:
    return httpcore.AsyncConnectionPool(
        ssl_context=context,
        max_connections=None,  # the callers' own limits hold
        max_keepalive_connections=MAX_IDLE_PER_POOL,
        keepalive_expiry=IDLE_SECONDS,
        network_backend=backend,
    )


@contextmanager
def _in_words() -> Generator[None]:
    try:
        yield
    except tuple(theirs for theirs, _, _ in _MEANING) as error:
        ours, prefix = next(row[1:] for row in _MEANING if isinstance(error, row[0]))
        raise ours(f"{prefix}{error}") from None


def _in_one(stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> Any:
    return _Once(b"".join(stream)) if isinstance(stream, httpx.ByteStream) else stream


class _Once:
    """A body at hand, without the generator that httpx's own stream leaves behind when a send fails."""

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content

    def __aiter__(self) -> "_Once":
        return self

    async def __anext__(self) -> bytes:
        content, self._content = self._content, None
        if content is None:
            raise StopAsyncIteration
        return content
