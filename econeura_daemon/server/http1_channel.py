"""Bytes to and from one peer: over the non-blocking socket itself, or over TLS.

Trio's streams take locks and checkpoints that cost more than the system calls. Here a read is one ``recv``,
after a ``wait_readable`` where nothing is there; a write is one ``send``, at once, and waits only for a peer
that does not keep up. Both waits are level-triggered: they return at once for what came before them, so there
is no wake-up that could be lost.
"""

import contextlib
import socket
from typing import Protocol

import trio

LINGER = 2.0
"""Seconds in which a peer may go on sending after its last answer; like nginx's ``lingering_timeout``."""
LINGER_BYTES = 16 * 1024 * 1024
READ_SIZE = 64 * 1024
TURN = 16
"""Reads without a wait before others get their turn."""


class PeerGoneError(Exception):
    """The peer closed, reset, or took no byte for too long; nothing more can be sent."""


class Channel(Protocol):
    """One connection's bytes. One task reads; several may write, in turn.

    After a write that did not finish (a peer that is gone, a time-out, a cancellation) the byte stream is
    torn, and further writes raise `PeerGoneError` at once.
    """

    scheme: str
    torn: bool

    async def receive(self) -> bytes | None:
        """Return what the peer sent, ``b""`` when it will send no more, None after `interrupt`.

        Raises `PeerGoneError` after a reset.
        """
        ...

    def interrupt(self) -> None:
        """Let the present `receive`, or else the next one, return None."""
        ...

    async def send(self, data: bytes) -> None:
        """Send all of ``data``; no checkpoint when the peer keeps up. Raises `PeerGoneError`."""
        ...

    async def send_end(self) -> None:
        """Say that no more will be sent."""
        ...

    def receive_nowait(self) -> bytes:
        """Return what is here already, ``b""`` for nothing; never while somebody is in `receive`."""
        ...

    def has_unread(self) -> bool:
        """Tell whether the peer sent what nobody has read."""
        ...


class PlainChannel:
    """A socket in the clear."""

    __slots__ = (
        "_is_empty",
        "_is_interrupted",
        "_is_waiting",
        "_send_timeout",
        "_socket",
        "_turn",
        "_unwaited",
        "torn",
    )
    scheme = "http"

    def __init__(self, sock: socket.socket, send_timeout: float) -> None:
        self._socket = sock
        self._send_timeout = send_timeout
        self._turn = trio.StrictFIFOLock()
        self._is_empty = False
        self._is_waiting = False
        self._is_interrupted = False
        self._unwaited = 0
        self.torn = False

    async def receive(self) -> bytes | None:
        """See `Channel`."""
        while not self._is_interrupted:
            if not self._is_empty:
                try:
                    data = self._socket.recv(READ_SIZE)
                except BlockingIOError:
                    pass
                except OSError as error:
                    raise PeerGoneError from error
                else:
                    # A short read took all there was. Should more have come since, the wait does not wait.
                    self._is_empty = 0 < len(data) < READ_SIZE
                    self._unwaited += 1
                    if self._unwaited >= TURN:
                        self._unwaited = 0
                        await trio.lowlevel.checkpoint()
                    return data
            self._is_empty = False
            self._unwaited = 0
            self._is_waiting = True
            try:
                await trio.lowlevel.wait_readable(self._socket)
            except trio.ClosedResourceError:
                pass  # `interrupt`
            finally:
                self._is_waiting = False
        self._is_interrupted = False
        return None

    def interrupt(self) -> None:
        """See `Channel`."""
        self._is_interrupted = True
        if self._is_waiting:
            # Nothing is closed: this is the wake-up for whoever waits for the socket, and costs readers that
            # are not interrupted nothing, where a cancel scope would cost as much as the wait.
            trio.lowlevel.notify_closing(self._socket)

    async def send(self, data: bytes) -> None:
        """See `Channel`."""
        if self.torn:
            raise PeerGoneError
        if self._turn.locked():
            await self._send_slowly(data)
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.torn = True
            raise PeerGoneError from error
        if sent < len(data):
            await self._send_slowly(data, sent)

    async def _send_slowly(self, data: bytes, sent: int = 0) -> None:
        """Send the rest as the peer takes it; one that takes no byte for the send time-out is gone."""
        self.torn = self.torn or sent > 0
        async with self._turn:
            if self.torn and not sent:
                raise PeerGoneError
            self.torn = True
            rest = memoryview(data)[sent:]
            while rest:
                with (
                    trio.move_on_after(self._send_timeout) as waiting,
                    contextlib.suppress(trio.ClosedResourceError),  # a reader's `interrupt`
                ):
                    await trio.lowlevel.wait_writable(self._socket)
                if waiting.cancelled_caught:
                    raise PeerGoneError
                try:
                    rest = rest[self._socket.send(rest) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise PeerGoneError from error
            self.torn = False

    async def send_end(self) -> None:
        """See `Channel`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def receive_nowait(self) -> bytes:
        """See `Channel`."""
        if self._is_waiting:
            return b""
        try:
            return self._socket.recv(READ_SIZE)
        except OSError:
            return b""

    def has_unread(self) -> bool:
        """See `Channel`."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False


class TlsChannel:
    """A TLS stream whose handshake is done."""

    __slots__ = ("_is_interrupted", "_reading", "_send_timeout", "_stream", "_turn", "torn")
    scheme = "https"

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], send_timeout: float) -> None:
        self._stream = stream
        self._send_timeout = send_timeout
        self._turn = trio.StrictFIFOLock()
        self._reading: trio.CancelScope | None = None
        self._is_interrupted = False
        self.torn = False

    async def receive(self) -> bytes | None:
        """See `Channel`."""
        if not self._is_interrupted:
            with trio.CancelScope() as self._reading:
                try:
                    return bytes(await self._stream.receive_some(READ_SIZE))
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    raise PeerGoneError from error
        self._is_interrupted = False
        return None

    def interrupt(self) -> None:
        """See `Channel`."""
        self._is_interrupted = True
        if self._reading is not None:
            self._reading.cancel()

    async def send(self, data: bytes) -> None:
        """See `Channel`."""
        async with self._turn:
            if self.torn:
                raise PeerGoneError
            self.torn = True
            # A TLS record cannot be sent again in part, so the time-out counts for pieces of this size.
            for start in range(0, len(data), READ_SIZE):
                with trio.move_on_after(self._send_timeout) as waiting:
                    try:
                        await self._stream.send_all(data[start : start + READ_SIZE])
                    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                        raise PeerGoneError from error
                if waiting.cancelled_caught:
                    raise PeerGoneError
            self.torn = False

    async def send_end(self) -> None:
        """See `Channel`."""
        with trio.move_on_after(1), contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            transport = self._stream.transport_stream
            await self._stream.unwrap()
            await transport.send_eof()

    def receive_nowait(self) -> bytes:
        """See `Channel`: Trio's streams cannot be asked."""
        return b""

    def has_unread(self) -> bool:
        """See `Channel`."""
        return False


async def hang_up(channel: Channel) -> None:
    """Say that no more will be sent, and take what the peer still sends for a moment, unread.

    Closing a socket that holds unread bytes resets the connection, and the reset may overtake the last
    answer: a client in the middle of a body would never see its 413 (RFC 9112 section 9.6).
    """
    if channel.torn:
        return
    left = LINGER_BYTES
    with trio.move_on_after(LINGER), contextlib.suppress(PeerGoneError):
        await channel.send_end()
        while left > 0:
            data = await channel.receive()
            if data == b"":
                return
            left -= len(data or b"")
