"""Bytes to and from one peer, with an end to every wait."""

import contextlib

import trio

LINGER = 2.0
"""Seconds in which a peer may go on sending after its last answer; like nginx's ``lingering_timeout``."""
LINGER_BYTES = 16 * 1024 * 1024
READ_SIZE = 64 * 1024


class PeerGoneError(Exception):
    """The peer closed, reset, or took no byte for too long; nothing more can be sent."""


class Wire:
    """One connected socket. One task reads; several may write, in turn.

    After a write that did not finish (a peer that is gone, a time-out, a cancellation) the byte stream is
    torn: the wire is `torn`, further writes raise `PeerGoneError` at once.
    """

    def __init__(self, stream: trio.SocketStream, send_timeout: float) -> None:
        self._stream = stream
        self._socket = stream.socket
        self._send_timeout = send_timeout
        self._turn = trio.StrictFIFOLock()
        self._reading: trio.CancelScope | None = None
        self.torn = False

    async def read(self) -> bytes | None:
        """Return what the peer sent, ``b""`` when it will send no more, None after `interrupt`.

        Raises `PeerGoneError` after a reset.
        """
        with trio.CancelScope() as self._reading:
            try:
                return bytes(await self._stream.receive_some(READ_SIZE))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise PeerGoneError from error
        return None

    def interrupt(self) -> None:
        """Wake the task in `read`, if one is there."""
        if self._reading is not None:
            self._reading.cancel()

    async def write(self, data: bytes) -> None:
        """Send all of ``data``; a peer that takes no byte of it for the send time-out is gone."""
        async with self._turn:
            if self.torn:
                raise PeerGoneError
            self.torn = True
            view = memoryview(data)
            while view:
                with trio.move_on_after(self._send_timeout) as waiting:
                    try:
                        view = view[await self._socket.send(view) :]
                    except OSError as error:
                        raise PeerGoneError from error
                if waiting.cancelled_caught:
                    raise PeerGoneError
            self.torn = False

    def send_end(self) -> None:
        """Say that no more will be sent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(trio.socket.SHUT_WR)

    async def hang_up(self) -> None:
        """Say that no more will be sent, and take what the peer still sends for a moment, unread.

        Closing a socket that holds unread bytes resets the connection, and the reset may overtake the last
        answer: a client in the middle of a body would never see its 413 (RFC 9112 section 9.6).
        """
        if self.torn:
            return
        self.send_end()
        left = LINGER_BYTES
        with trio.move_on_after(LINGER):
            while left > 0:
                try:
                    data = await self._stream.receive_some(READ_SIZE)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
                if not data:
                    return
                left -= len(data)
