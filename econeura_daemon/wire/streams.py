"""One connection as httpcore wants it: errors in words, and a bound on what one answer may hold."""

import ssl
from typing import Any

import httpcore
import httpx
import trio

from econeura_daemon.wire.connect import Connector


class AnswerTooLargeError(httpx.ReadError):
    """The peer sent more of one answer than is read; the connection is closed."""


class CountingStream(httpcore.AsyncNetworkStream):
    """Reads at most ``limit`` bytes between two writes: without pipelining, of one answer."""

    def __init__(self, stream: trio.abc.Stream, connector: Connector, limit: int, deadline: float) -> None:
        self._stream = stream
        self._connector = connector
        self._limit = limit
        self._left = limit
        self._deadline = deadline

    def refuse_reading(self) -> None:
        """Let every later read of this answer fail."""
        self._left = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._left <= 0:
            raise AnswerTooLargeError(f"the answer is larger than {self._limit} bytes")
        try:
            with trio.fail_after(float("inf") if timeout is None else timeout):
                data = bytes(await self._stream.receive_some(min(max_bytes, self._left)))
        except trio.TooSlowError:
            raise httpcore.ReadTimeout("no answer in time") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise httpcore.ReadError("the connection was reset before the answer was complete") from None
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._left = self._limit
        if not buffer:
            return
        try:
            with trio.fail_after(float("inf") if timeout is None else timeout):
                await self._stream.send_all(buffer)
        except trio.TooSlowError:
            raise httpcore.WriteTimeout("the request was not taken in time") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # httpcore goes on to read: a server may answer and close before it has read all.
            raise httpcore.WriteError("the connection was reset before the request was sent") from None

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)  # no close_notify: a peer that reads nothing would hold it

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        left = self._deadline - trio.current_time()
        del timeout  # look-up, TCP and TLS share one
        tls = await self._connector.start_tls(self._stream, server_hostname or "", ssl_context, max(0, left))
        return CountingStream(tls, self._connector, self._limit, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        stream = self._stream
        if info == "ssl_object":
            return None  # only asked for h2, which is not offered
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        if info == "is_readable" and isinstance(stream, trio.SocketStream):
            return stream.socket.is_readable()
        return None
