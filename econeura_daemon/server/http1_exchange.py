"""One request and its answer, as ASGI messages.

`receive` reads the socket itself and no task of ours watches over the handler: the sweep of `upkeep` tells when
the client has left, and then the handler is cancelled.
"""

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import trio

from econeura_daemon.server.asgi import Header, Message
from econeura_daemon.server.framing import Framer, Head, Refusal
from econeura_daemon.server.http1_channel import Channel, PeerGoneError
from econeura_daemon.server.http1_response import BODILESS, BadResponseError, DateLine, write_head

if TYPE_CHECKING:
    from econeura_daemon.server.connection import Drain

HALF_CLOSED_GRACE = 2.0
"""Seconds that an answer may still take after the peer stopped sending: TCP does not tell a client that is
gone from one that has said all it had to say.
"""
_ONE_WRITE = 64 * 1024
_OURS = frozenset((b"transfer-encoding", b"keep-alive", b"upgrade", b"connection", b"date"))
_NOT_SENT = -1
"""The length of a body that is taken from the application and not sent: HEAD, 204, 304."""


class Exchange:
    """What one call of the application receives and sends."""

    __slots__ = (
        "_body",
        "_body_sent",
        "_channel",
        "_date",
        "_drain",
        "_framer",
        "_has_100_to_send",
        "_head",
        "_is_body_told",
        "_is_chunked",
        "_is_end_told",
        "_length",
        "_over",
        "_pending",
        "has_begun",
        "is_finished",
        "keeps_alive",
        "refusal",
        "scope",
        "streams",
    )

    def __init__(
        self,
        head: Head,
        framer: Framer,
        channel: Channel,
        date: DateLine,
        drain: "Drain",
        *,
        body: bytes | None = None,
    ) -> None:
        """``body``: all of it, if it came with the head; else the framer's to read."""
        self._head = head
        self._body = body or b""
        self._framer = framer
        self._channel = channel
        self._date = date
        self._drain = drain
        self._has_100_to_send = head.expects_continue
        self._is_body_told = False
        self._is_end_told = False
        self._is_chunked = False
        self._length: int | None = None
        self._body_sent = 0
        self._pending = b""
        self._over: trio.Event | None = None
        self.scope = trio.CancelScope()
        self.has_begun = False
        self.is_finished = False
        self.streams = False
        self.keeps_alive = head.keeps_alive
        self.refusal: Refusal | None = None

    # What the application calls.

    async def receive(self) -> Message:
        """Return a piece of the body; after its end wait for the end of the exchange."""
        if self._is_body_told:
            return await self._wait_until_over()
        while True:
            piece = self._framer.next_body() if self._framer.in_body else self._body
            if isinstance(piece, Refusal):
                self.refusal = piece
                await self._cancel()
            elif piece or not self._framer.in_body:
                self._is_body_told = not self._framer.in_body
                self._body = b""  # while an answer waits for its reader, nothing else is kept
                return {"type": "http.request", "body": piece or b"", "more_body": self._framer.in_body}
            elif piece is None:
                await self._read()
            else:
                await trio.lowlevel.checkpoint()  # so many tiny chunks that it takes a while

    async def _read(self) -> None:
        try:
            if self._has_100_to_send and not self.has_begun:
                self._has_100_to_send = False
                await self._channel.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            data = await self._channel.receive()
        except PeerGoneError:
            data = b""
        if data == b"":
            await self._cancel()
        self._has_100_to_send = False  # the client did not wait for it
        self._framer.feed(data or b"")

    async def _wait_until_over(self) -> Message:
        if not self.is_finished:
            self._over = self._over or trio.Event()
            await self._over.wait()
        return {"type": "http.disconnect"}

    async def _cancel(self) -> None:
        """End the handler here."""
        self.scope.cancel()
        await trio.lowlevel.checkpoint()
        await trio.sleep_forever()  # only behind a shield: there is nothing that could be returned

    async def send(self, message: Message) -> None:
        """Take the start of the answer or a piece of its body."""
        if self.is_finished and not self._is_end_told and not message.get("more_body", False):
            self._is_end_told = True  # the body was complete before the application said so
            return
        if self.is_finished or self.refusal is not None:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._take(message)
        except BadResponseError:
            self.keeps_alive = False
            raise

    @property
    def is_head(self) -> bool:
        """Whether the answer has no body, whatever its head says: it is one to HEAD."""
        return self._head.method == "HEAD"

    async def answer(
        self, status: int, headers: Iterable[Header], body: bytes, begins: Callable[[int], None]
    ) -> None:
        """Answer with a body that is whole, in one write; not to HEAD. ``begins`` is told the status just before."""
        headers, _ = self._sort(headers)
        if self._drain.begun.is_set():
            self.keeps_alive = False
        last = b"" if status in BODILESS else b"content-length: %d\r\n" % len(body)
        if not self.keeps_alive:
            last += b"connection: close\r\n"
        data = write_head(status, self._date(), headers, last)
        self.has_begun = True
        begins(status)
        await self._write(data if status in BODILESS else data + body)
        self._finish()

    async def _take(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._start(message)
            if self.streams:
                await self._write(b"")
        elif kind == "http.response.body":
            if not self.has_begun:
                raise BadResponseError("the body of an answer comes before its start")
            more = bool(message.get("more_body", False))
            data = self._frame(bytes(message.get("body", b"")), more=more)
            is_last = not more or (self._length is not None and self._body_sent == self._length)
            if not more and self._length is not None and self._body_sent < self._length:
                raise BadResponseError("the answer is shorter than its Content-Length")
            await self._write(data)
            if is_last:
                self._finish()
            elif more:
                await trio.lowlevel.checkpoint()
        else:
            raise BadResponseError(f"an answer has no {kind}")

    def _start(self, message: Message) -> None:
        if self.has_begun:
            raise BadResponseError("the answer starts twice")
        status = int(message["status"])
        headers, length = self._sort(message.get("headers", ()))
        last = b""
        if status in BODILESS or self._head.method == "HEAD":
            self._length = _NOT_SENT
        elif length is not None:
            self._length = length
        else:
            self.streams = True
            if self._head.minor:
                self._is_chunked = True
                last = b"transfer-encoding: chunked\r\n"
            else:
                self.keeps_alive = False
        if self._drain.begun.is_set() or (self._framer.in_body and self._has_100_to_send):
            self.keeps_alive = False
        if not self.keeps_alive:
            last += b"connection: close\r\n"
        self._pending = write_head(status, self._date(), headers, last)
        self.has_begun = True

    def _sort(self, given: Iterable[Header]) -> tuple[list[Header], int | None]:
        """Return the headers that are the application's to say, and the length that they tell."""
        headers: list[Header] = []
        length: int | None = None
        for name, value in given:
            lower = name.lower()
            if lower in _OURS:
                if lower == b"connection" and b"close" in value.lower():
                    self.keeps_alive = False
                continue
            if lower == b"content-length":
                length = int(value)
            headers.append((name, value))
        return headers, length

    def _frame(self, body: bytes, *, more: bool) -> bytes:
        if self._length == _NOT_SENT:
            return b""
        if self._length is not None:
            self._body_sent += len(body)
            if self._body_sent > self._length:
                raise BadResponseError("the answer is longer than its Content-Length")
            return body
        if not self._is_chunked:
            return body
        framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return framed if more else framed + b"0\r\n\r\n"

    async def _write(self, data: bytes) -> None:
        head, self._pending = self._pending, b""
        try:
            if head and len(data) > _ONE_WRITE:
                await self._channel.send(head)
            elif head:
                data = head + data
            if data:
                await self._channel.send(data)
        except PeerGoneError:
            await self._cancel()

    def _finish(self) -> None:
        self.is_finished = True
        if self._framer.in_body and self.keeps_alive:
            self._pass_over_body()
        if self._over is not None:
            self._over.set()

    def _pass_over_body(self) -> None:
        """Look for the next request behind a body that nobody read to its end, if that has arrived already."""
        framer = self._framer
        framer.feed(self._channel.receive_nowait())
        piece: bytes | Refusal | None = b""
        while isinstance(piece, bytes) and framer.in_body:
            piece = framer.next_body()
        self._is_body_told = True
        self.keeps_alive = not framer.in_body

    # What others do to it.

    def leave(self, *, is_reset: bool) -> None:
        """Note that the client is gone, or (not ``is_reset``) at least sends no more."""
        if is_reset or self.streams:
            self.scope.cancel()
        elif self.scope.deadline == math.inf:
            self.scope.deadline = trio.current_time() + HALF_CLOSED_GRACE
