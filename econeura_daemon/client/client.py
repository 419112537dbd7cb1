"""Calling services by their type from Python: in one line, or as the transport of httpx."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from random import Random
from typing import Any

import attrs
import httpx
import trio

from econeura_daemon.client.calls import Answer, Call, KeptBody
from econeura_daemon.client.mesh import Mesh, Observer
from econeura_daemon.client.sending import Sender
from econeura_daemon.client.steps import Resolve
from econeura_daemon.core.instances import TYPE
from econeura_daemon.core.phrases import shortened
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.telemetry.trace import parse_traceparent
from econeura_daemon.wire import open_internal_transport

_EXTENSION = "mesh"
_WHOLE = "mesh_whole"
_GRACE = 1.0
"""Seconds in which a body's source may come to its end."""
_OURS = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"traceparent", b"tracestate",
     b"x-timeout-ms")
)  # fmt: skip


@attrs.frozen
class Facts:
    """How an answer came about."""

    service_id: str
    """The instance that answered."""
    attempts: int
    seconds: float
    """From the call's beginning to the head of the answer."""


def facts_of(response: httpx.Response) -> Facts:
    """Return how the answer of a service came about. Raises KeyError for one that did not come through the mesh."""
    facts: Facts = response.extensions[_EXTENSION]
    return facts


class MeshTransport(httpx.AsyncBaseTransport):
    """A transport of httpx whose host names are service types: ``http://workers/emails/process``.

    Raises `MeshError`, which is an `httpx.TransportError`. The ``read`` timeout of httpx is the caller's deadline for
    the head of the answer; it shortens the service's own, and never lengthens it. A body may last as long as it goes
    on coming.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Call the service and return its answer, the body still to be read."""
        call, close = _call_of(request)
        try:
            answer = await self._mesh.call(call)
        finally:
            if close is not None:  # with the head, or without one, nothing more of the body is sent
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _GRACE):
                    await close()
        return httpx.Response(
            answer.status,
            headers=list(answer.headers),
            stream=_Stream(answer),
            request=request,
            extensions={_EXTENSION: Facts(answer.service_id, answer.attempts, answer.seconds)},
        )


class Client:
    """Calls services; made by `open_client`."""

    def __init__(self, mesh: Mesh, http: httpx.AsyncClient) -> None:
        self.mesh = mesh
        self.http = http
        """A client of httpx whose host names are service types."""

    def __repr__(self) -> str:
        return f"<Client: {self.mesh!r}>"

    async def request(
        self, service: str, method: str, path: str, *, timeout: float | None = None, **more: Any
    ) -> httpx.Response:
        """Call a service and return its whole answer; `facts_of` tells who gave it, and after how many attempts.

        All of it is there within the service's timeout; ``timeout``, in seconds, shortens that. For answers that are
        to last longer there is `http`, which streams. ``path`` begins with / and may have a query. ``more``:
        ``json``, ``content``, ``headers``, ``params`` … of `httpx.AsyncClient.build_request`. Raises `MeshError`; an
        answer of any status is returned. Raises ValueError for what is no service's type, or no path.
        """
        if TYPE.fullmatch(service) is None:
            raise ValueError(f"expected the type of a service, such as 'workers', got {shortened(service)!r}")
        if not path.startswith("/"):
            raise ValueError(f"expected a path that begins with /, got {shortened(path)!r}")
        request = self.http.build_request(method, f"http://{service}{path}", timeout=timeout, **more)
        request.extensions = {**request.extensions, _WHOLE: True}
        return await self.http.send(request)


@asynccontextmanager
async def open_client(
    *,
    resolve: Resolve,
    settings_of: Callable[[str], MeshSettings],
    rng: Random,
    observer: Observer | None = None,
) -> AsyncGenerator[Client]:
    """Call services for the length of the block; at its end every connection is closed.

    ``resolve``: the instances of a type, as `registry.Snapshot.resolve` returns them.
    """
    async with open_internal_transport() as transport:
        sender = Sender(transport, rng)
        mesh = Mesh(resolve=resolve, settings_of=settings_of, sender=sender.to, rng=rng, observer=observer)
        async with over(mesh) as client:
            yield client


@asynccontextmanager
async def over(mesh: Mesh) -> AsyncGenerator[Client]:
    """Offer a client of ``mesh`` for the length of the block."""
    unhurried = httpx.Timeout(None)  # each service has its own
    # What a service sets as a cookie for one caller is nothing to the next, who may be somebody else.
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    async with httpx.AsyncClient(
        transport=MeshTransport(mesh), timeout=unhurried, trust_env=False, cookies=no_cookies
    ) as http:
        yield Client(mesh, http)


def _call_of(request: httpx.Request) -> tuple[Call, Callable[[], Awaitable[None]] | None]:
    """Return a request as a call, and what lets go of its body."""
    body, close = _body_of(request)
    headers = [pair for pair in request.headers.raw if pair[0].lower() not in _OURS]
    states = request.headers.get("tracestate")
    call = Call(
        service=request.url.raw_host.decode("ascii"),
        method=request.method,
        place=request.url.raw_path,
        headers=headers,
        body=body,
        timeout=request.extensions.get("timeout", {}).get("read"),
        is_whole=request.extensions.get(_WHOLE, False),
        trace=parse_traceparent(request.headers.get("traceparent"), states),
        id=request.headers.get("x-request-id", ""),
    )
    return call, close


def _body_of(request: httpx.Request) -> tuple[bytes | KeptBody, Callable[[], Awaitable[None]] | None]:
    stream = request.stream
    if isinstance(stream, httpx.SyncByteStream):
        return b"".join(stream), None
    parts = aiter(stream)

    async def more() -> bytes:
        async for part in parts:
            if part:
                return part
        return b""

    length = request.headers.get("content-length")
    if length is not None and not (length.isascii() and length.isdigit()):
        raise httpx.LocalProtocolError(f"the request cannot be sent: its length is {shortened(length)!r}")
    body = KeptBody(more, None if length is None else int(length), is_resumable=False)
    return body, getattr(parts, "aclose", None)


class _Stream(httpx.AsyncByteStream):
    """An answer's raw bytes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = await self._answer.more()
        if not part:
            raise StopAsyncIteration
        return part

    async def aclose(self) -> None:
        self._answer.close()
