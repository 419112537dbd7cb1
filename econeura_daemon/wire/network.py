"""What httpcore connects by: our own checked connections, or those to a proxy that the operator named.

httpcore asks for a host and a port; under HTTP/2 it gets a connection to an address of that host that went past
the guard. A proxy is reached unchecked, by the operator's word, and resolves the targets' names itself.
"""

import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpcore
import httpx
import trio

from econeura_daemon.wire.connect import tls_reason

Open = Callable[[str, int, float], Awaitable[Any]]
"""Connects to host and port within seconds; gives a non-blocking socket."""


class Network(httpcore.AsyncNetworkBackend):
    """Connections for one pool of httpcore's, each opened by ``open_tcp``."""

    def __init__(self, open_tcp: Open) -> None:
        self._open_tcp = open_tcp

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - httpcore's port
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - likewise
    ) -> httpcore.AsyncNetworkStream:
        """Connect within ``timeout`` seconds; what is left of them is TLS's."""
        seconds = float("inf") if timeout is None else timeout
        deadline = trio.current_time() + seconds
        try:
            connected = await self._open_tcp(host, port, seconds)
        except httpx.ConnectTimeout as error:
            raise httpcore.ConnectTimeout(str(error)) from None
        except httpx.ConnectError as error:
            raise httpcore.ConnectError(str(error)) from None
        return _Stream(trio.SocketStream(trio.socket.from_stdlib_socket(connected)), deadline)


class _Stream(httpcore.AsyncNetworkStream):
    """One connection, as httpcore wants it, with reasons in words."""

    def __init__(self, stream: trio.abc.Stream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            with trio.fail_after(float("inf") if timeout is None else timeout):
                return bytes(await self._stream.receive_some(max_bytes))
        except trio.TooSlowError:
            raise httpcore.ReadTimeout("the server said nothing in time") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise httpcore.ReadError("the connection was reset before the answer was complete") from None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        try:
            with trio.fail_after(float("inf") if timeout is None else timeout):
                await self._stream.send_all(buffer)
        except trio.TooSlowError:
            raise httpcore.WriteTimeout("the server took nothing in time") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise httpcore.WriteError("the connection was reset before the request was sent") from None

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the connecting has one, TLS included
    ) -> "httpcore.AsyncNetworkStream":
        tls = trio.SSLStream(
            self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True
        )
        try:
            with trio.fail_at(self._deadline):
                await tls.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(self._stream)
            if isinstance(error, trio.TooSlowError):
                raise httpcore.ConnectTimeout(
                    f"the TLS handshake with {server_hostname} took too long"
                ) from None
            if isinstance(error, trio.BrokenResourceError):
                raise httpcore.ConnectError(
                    f"TLS with {server_hostname} failed: {tls_reason(error.__cause__)}"
                ) from None
            raise
        return _Stream(tls, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """Answer the two questions that httpcore asks: what TLS agreed upon, and whether something came."""
        stream = self._stream
        if info == "ssl_object":
            return stream if isinstance(stream, trio.SSLStream) else None
        if info == "is_readable":
            while isinstance(stream, trio.SSLStream):
                stream = stream.transport_stream
            assert isinstance(stream, trio.SocketStream)
            return stream.socket.is_readable()
        return None
