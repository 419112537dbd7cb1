"""The short way out: a request that is bytes already, an answer that is never an object."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import httpx

from econeura_daemon.wire.requests import Target


class Sink(Protocol):
    """Who takes an answer as it comes."""

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Take the head."""

    def add(self, part: bytes) -> bool:
        """Take a part of the body; False: no more is wanted, and the connection is closed."""


@runtime_checkable
class Posting(Protocol):
    """Who sends prepared requests: the transport of this package, or `OverHttpx` in its place."""

    async def post(
        self, target: Target, head: bytes, body: bytes, sink: Sink, *, connect_timeout: float | None = None
    ) -> None:
        """Send a request that may be repeated and hand its answer to ``sink``.

        ``head``: from the request line to the last header, each line with its end; ``body`` as long as the
        head says. Raises `httpx.TransportError`, `EgressRefusedError`.
        """


class OverHttpx:
    """Prepared requests over any transport of httpx: HTTP/2, a proxy, a test's own."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def post(
        self, target: Target, head: bytes, body: bytes, sink: Sink, *, connect_timeout: float | None = None
    ) -> None:
        """Send it as an `httpx.Request`."""
        line, *lines = head.split(b"\r\n")[:-1]
        method, place, _ = line.split(b" ")
        request = httpx.Request(
            method.decode("ascii"),
            httpx.URL(
                scheme="https" if target.tls else "http", host=target.host, port=target.port, raw_path=place
            ),
            headers=[(name, value) for name, _, value in (one.partition(b": ") for one in lines)],
            stream=httpx.ByteStream(body),
            extensions={"timeout": {"connect": connect_timeout}, "repeatable": True},
        )
        response = await self._transport.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        parts = aiter(stream)
        try:
            sink.begin(response.status_code, response.headers.raw)
            async for part in parts:
                if not sink.add(part):
                    break
        finally:
            if hasattr(parts, "aclose"):
                await parts.aclose()  # a generator must not be left to the garbage collector
            await stream.aclose()
