"""A connection under TLS: OpenSSL between two buffers in memory, the socket our own.

`ssl.SSLSocket` makes two system calls where one would do, and wraps each in several calls of Python: a request
cost half as much again. Here bytes are read and sent as in the clear, and sealed and opened in between.
"""

import contextlib
import socket
import ssl

import httpx
import trio

from econeura_daemon.wire.connection import READ_SIZE, Connection, lost

SEALED_AT_ONCE = 256 * 1024
"""Bytes of a request that are sealed before they are sent, so that no copy of a large body is held."""


class TlsConnection(Connection):
    """After `shake_hands`, a `Connection`."""

    __slots__ = ("_in", "_out", "_rest", "_tls")

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(connected)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self._rest: memoryview | bytes = b""
        """Sealed, and not sent yet."""

    async def shake_hands(self) -> None:
        """Agree on keys, and verify the peer's certificate. Raises OSError, `ssl.SSLError` among them.

        Our last word, if the last is ours (TLS 1.3), goes out with the first request.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await trio.lowlevel.wait_readable(self._fd)
                with contextlib.suppress(BlockingIOError):
                    self._fill()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._send_rest()  # why, for the peer's log
                raise
            else:
                return

    @property
    def flushed(self) -> bool:
        """Nothing that was taken waits to be sent."""
        return not self._rest

    def is_quiet(self) -> bool:
        """Tell whether the peer has neither closed nor said anything; keys and tickets are not said to us."""
        try:
            if self._poll.poll(0):
                self._fill()
            elif not self._in.pending:
                return not self._tls.pending()
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        return False

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the kernel takes at once; what was sealed and not taken goes first the next time."""
        taken = 0
        if not self._rest and data:
            taken = self._tls.write(data[:SEALED_AT_ONCE])
        self._send_rest()
        return taken

    async def receive(self, limit: int) -> bytes:
        """Wait for bytes, at most ``limit``; nothing at the peer's end. Raises `httpx.ReadError`."""
        size = min(READ_SIZE, limit)
        try:
            if self._in.pending or self._tls.pending():
                await trio.lowlevel.checkpoint()
                try:
                    return self._tls.read(size)
                except ssl.SSLWantReadError:
                    pass  # half a record
            while True:
                await self._readable()
                try:
                    self._fill()
                    return self._tls.read(size)
                except (BlockingIOError, ssl.SSLWantReadError):
                    if self._out.pending:
                        with contextlib.suppress(OSError):
                            self._send_rest()  # the peer asked for new keys; somebody may be sending just now
        except ssl.SSLEOFError:
            self.cut = True  # the socket's end, and nobody said that it is the answer's
            return b""
        except OSError as error:
            raise httpx.ReadError(lost(error, "the answer was complete")) from None

    def close(self) -> None:
        """Close at once, after a word of farewell if the kernel takes it (RFC 8446 6.1)."""
        with contextlib.suppress(OSError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self._send_rest()
        super().close()

    def _fill(self) -> None:
        data = self._socket.recv(READ_SIZE)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def _send_rest(self) -> None:
        if self._out.pending:
            sealed = self._out.read()
            self._rest = b"".join((self._rest, sealed)) if self._rest else sealed
        if self._rest:
            try:
                sent = self._socket.send(self._rest)
            except BlockingIOError:
                return
            self._rest = b"" if sent == len(self._rest) else memoryview(self._rest)[sent:]

    async def _flush(self) -> None:
        self._send_rest()
        while self._rest:
            await trio.lowlevel.wait_writable(self._fd)
            self._send_rest()
