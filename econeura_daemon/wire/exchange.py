"""One request and its answer on one connection."""

import httpx
import trio

from econeura_daemon.wire.answers import AnswerParser
from econeura_daemon.wire.connection import Connection, unsent
from econeura_daemon.wire.requests import Body

_GRACE = 1.0
"""Seconds in which an answer may still be read after the peer stopped reading the request."""


class AnswerTooLargeError(httpx.ReadError):
    """The peer sent more of one answer than is read; the connection is closed."""


class AnswerCutError(httpx.RemoteProtocolError):
    """All that came may be all, but only the end of the connection says so, and TLS does not confirm it."""


class StaleError(Exception):
    """The connection had died while it was idle: not one byte of an answer came.

    ``untouched``: nor did the request leave. ``reason``: what to raise if it is not tried again.
    """

    def __init__(self, reason: httpx.TransportError, *, untouched: bool) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.untouched = untouched


class Exchange:
    """Sends a request, then reads its answer: `send`, `head`, `more` until it returns nothing.

    ``max_bytes``: read of the answer, head included, before `AnswerTooLargeError`; None: as much as comes.
    ``read_timeout``, ``write_timeout``: seconds of one wait for the peer. A failure leaves the connection in
    an unknown state: it must be closed.
    """

    __slots__ = (
        "_body",
        "_failure",
        "_left",
        "_max_bytes",
        "_rest",
        "_unsent",
        "_write_timeout",
        "connection",
        "heard",
        "parser",
        "read_timeout",
        "sent",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        head_only: bool = False,
        max_bytes: int | None = None,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
    ) -> None:
        self.connection = connection
        self.parser: AnswerParser = connection.parser
        self.parser.begin(head_only=head_only)
        self._max_bytes = max_bytes
        self._left = max_bytes
        self.read_timeout = read_timeout
        self._write_timeout = write_timeout
        self._rest = memoryview(b"")
        self._body: Body | None = None
        self._failure: Exception | None = None
        self._unsent: httpx.WriteError | None = None
        self.heard = False
        """Something of an answer came."""
        self.sent = False
        """All of the request left."""

    @property
    def reusable(self) -> bool:
        """The answer is complete, and the connection fit for another request."""
        return self.parser.complete and self.parser.reusable and (self.sent or self._is_out)

    @property
    def _is_out(self) -> bool:
        """All of the request left, though the answer was there before the sending task could say so."""
        body = self._body
        if body is None or self._rest or self._failure is not None or self._unsent is not None:
            return False
        return body.is_out and self.connection.flushed

    async def send(self, data: bytes, body: Body | None = None) -> None:
        """Send a request, or as much of it as leaves before the head of the answer comes.

        What is left of a body that is resumable goes on leaving while the answer is read; else an answer that comes
        before all of it left ends the sending (RFC 9112 9.5).
        """
        try:
            taken = self.connection.send_now(data)
        except OSError as error:
            raise StaleError(unsent(error), untouched=True) from None
        if taken == len(data) and body is None and self.connection.flushed:
            self.sent = True
            return
        self._rest, self._body = memoryview(data)[taken:], body
        await self._send_while_listening()

    async def head(self) -> None:
        """Read until the head of the answer stands."""
        parser = self.parser
        while not parser.has_head:
            await self._receive()

    async def more(self) -> bytes:
        """Return the next bytes of the answer's body, nothing at its end."""
        parser = self.parser
        while True:
            if parser.parts:
                return parser.parts.popleft()
            if parser.complete:
                return b""
            if self.sent or self._body is None or not self._body.is_resumable:
                await self._receive()
            else:
                await self._receive_while_sending()

    async def _receive(self) -> None:
        if self.parser.flaw is not None:
            raise httpx.RemoteProtocolError(f"the answer is not HTTP/1.1: {self.parser.flaw}")
        left = self._left
        if left is None:
            limit = 1 << 20
        elif left > 0:
            limit = left
        else:
            raise AnswerTooLargeError(f"the answer is larger than {self._max_bytes} bytes")
        try:
            if self.read_timeout is None or not self.sent:
                data = await self.connection.receive(limit)
            else:
                data = await self._receive_in_time(limit)
        except httpx.ReadError as error:
            raise self._lost(error) from None
        if left is not None:
            self._left = left - len(data)
        if data:
            self.heard = True
            self.parser.feed(data)
        elif missing := self.parser.end(cut=self.connection.cut):
            unsure = self.parser.ends_with_connection
            raise self._lost((AnswerCutError if unsure else httpx.RemoteProtocolError)(missing))

    def _lost(self, reason: httpx.TransportError) -> Exception:
        return reason if self.heard else StaleError(reason, untouched=False)

    async def _receive_in_time(self, limit: int) -> bytes:
        with trio.move_on_after(self.read_timeout or 0):
            return await self.connection.receive(limit)
        raise httpx.ReadTimeout(f"the server said nothing for {_ms(self.read_timeout)} ms")

    # A request that does not leave at once: send and listen at the same time.

    async def _send_while_listening(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, nursery.cancel_scope)
            nursery.start_soon(self._listen, nursery.cancel_scope)
        if self.sent or self.parser.has_head:
            return
        if self._failure is not None:
            raise self._failure
        raise self._lost(self._unsent or httpx.WriteError("the request was not sent"))

    async def _receive_while_sending(self) -> None:
        """Take what comes of the answer, or send all of the request, whichever is first."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, nursery.cancel_scope)
            nursery.start_soon(self._receive_once, nursery.cancel_scope)
        if self._unsent is not None:
            self._body = None  # the peer takes no more, and may answer all the same
        if self._failure is not None:
            raise self._failure

    async def _receive_once(self, both: trio.CancelScope) -> None:
        try:
            await self._receive()
        except Exception as error:  # noqa: BLE001 - raised above
            self._failure = self._failure or error
        both.cancel()

    async def _pump(self, both: trio.CancelScope) -> None:
        """Send what is left. Of a resumable body a cancellation loses nothing."""
        body = self._body
        try:
            try:
                await self._send_rest()
                while body is not None and (part := await body.next()):
                    self._rest = memoryview(part)
                    await self._send_rest()
            finally:
                if body is not None and not body.is_resumable:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + _GRACE):
                        await body.aclose()
        except _UnsentError as error:
            self._unsent = unsent(error.reason)
            both.deadline = trio.current_time() + _GRACE  # the peer may have answered before
            return
        except Exception as error:  # noqa: BLE001 - the caller's own source failed; raised above
            self._failure = error
        else:
            self.sent = True
        both.cancel()

    async def _send_rest(self) -> None:
        while True:
            try:
                self._rest = self._rest[self.connection.send_now(self._rest) :]
            except OSError as error:
                raise _UnsentError(error) from None
            if not self._rest and self.connection.flushed:
                await trio.lowlevel.checkpoint()
                return
            with trio.move_on_after(_or_ever(self._write_timeout)) as scope:
                await self.connection.writable()
            if scope.cancelled_caught:
                raise httpx.WriteTimeout(f"the server took nothing for {_ms(self._write_timeout)} ms")

    async def _listen(self, both: trio.CancelScope) -> None:
        try:
            await self.head()
        except Exception as error:  # noqa: BLE001 - raised above
            self._failure = self._failure or error
        both.cancel()


class _UnsentError(Exception):
    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _or_ever(seconds: float | None) -> float:
    return float("inf") if seconds is None else seconds


def _ms(seconds: float | None) -> int:
    return round((seconds or 0) * 1000)
