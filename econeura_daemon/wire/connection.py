"""One connection: bytes out, bytes in, on a non-blocking socket of the standard library's.

`trio.SocketStream` costs a checkpoint and a lock on every call; here a send that the kernel takes at once is one
system call, and waiting for the answer is the request's checkpoint.
"""

import errno
import os
import select
import socket
import ssl

import httpx
import trio

from econeura_daemon.wire.answers import AnswerParser

READ_SIZE = 64 * 1024


class Connection:
    """Belongs to one task at a time. `close` may be called at any time, by any."""

    __slots__ = ("_fd", "_poll", "_socket", "cut", "idle_since", "parser", "used")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._fd = connected.fileno()
        self._poll = select.poll()
        """Asks for less than a `recv` that fails."""
        self._poll.register(self._fd, select.POLLIN)
        self.cut = False
        """It ended without saying so, where that can be told: under TLS (RFC 8446 6.1)."""
        self.parser = AnswerParser()
        self.used = False
        """It has carried a request before, so the peer may be closing it just now."""
        self.idle_since = 0.0

    def is_quiet(self) -> bool:
        """Tell whether the peer has neither closed nor said anything."""
        return not self._poll.poll(0)

    @property
    def flushed(self) -> bool:
        """Nothing that was taken waits to be sent."""
        return True

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the kernel takes at once, perhaps nothing; tell how much of it was taken. Raises OSError."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def writable(self) -> None:
        """Wait until the kernel takes more."""
        try:
            await trio.lowlevel.wait_writable(self._fd)
        except trio.ClosedResourceError:
            raise httpx.WriteError(
                "the connection was closed at this end before the request was sent"
            ) from None

    async def receive(self, limit: int) -> bytes:
        """Wait for bytes, at most ``limit``; nothing at the peer's end. Raises `httpx.ReadError`."""
        while True:
            await self._readable()
            try:
                return self._socket.recv(min(READ_SIZE, limit))
            except BlockingIOError:
                continue
            except OSError as error:
                raise httpx.ReadError(lost(error, "the answer was complete")) from None

    async def _readable(self) -> None:
        try:
            await trio.lowlevel.wait_readable(self._fd)
        except trio.ClosedResourceError:
            raise httpx.ReadError(
                "the connection was closed at this end before the answer was complete"
            ) from None

    def rest(self) -> None:
        """Make ready for another request, after an answer that allows one."""
        self.used = True
        self.parser.rewind()

    def close(self) -> None:
        """Close at once: a peer that reads nothing holds nobody. Who still waits for it is told."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._fd)
        self._socket.close()


def unsent(error: OSError) -> httpx.WriteError:
    """Return what a failed send means."""
    return httpx.WriteError(lost(error, "the request was sent"))


def lost(error: OSError, before: str) -> str:
    """Return what an error of the socket means, in words."""
    if isinstance(error, ssl.SSLError):
        return f"TLS failed before {before}: {ssl_reason(error)}"
    if error.errno in {errno.ECONNRESET, errno.EPIPE}:
        return f"the connection was reset before {before}"
    reason = os.strerror(error.errno).lower() if error.errno is not None else str(error)
    return f"the connection was lost before {before}: {reason}"


def ssl_reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason, in lower case."""
    return (error.reason or str(error)).replace("_", " ").lower()
