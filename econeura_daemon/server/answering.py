"""An answer on its way out of an application: what every answer bears is added, and slow readers are noticed."""

from collections.abc import Sequence

import trio

from econeura_daemon.server.asgi import Header, Message, Send
from econeura_daemon.server.http1_exchange import Exchange
from econeura_daemon.server.requests import Request, Response
from econeura_daemon.server.rules.memory import Share
from econeura_daemon.server.rules.shed import Hold, noticing_waits


class AnswerGivenUpError(Exception):
    """Raised into the application whose answer cannot be kept until its client has read it; the connection ends."""


class Answering:
    """``send`` of an application: adds what every answer bears, and notices when it began.

    While a client does not read what it is sent, the slot is lent and the bytes are counted.
    """

    def __init__(self, send: Send, request: Request, headers: Sequence[Header], share: Share) -> None:
        self._send = send
        self._headers = [*headers, (b"x-request-id", request.context.request_id.encode())]
        self.share = share
        self.hold: Hold | None = None
        self.status = 0
        self.begun = 0.0

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"x-request-id"]
            self.share.close()  # the body has served its purpose
            await self._send_unhurried({**message, "headers": headers + self._headers})
            self._begin(message["status"])
        else:
            await self._send_unhurried(message)

    async def _send_unhurried(self, message: Message) -> None:
        if self.hold is None:
            await self._send(message)
            return
        size = len(message.get("body", b""))
        if not self.share.grow(size):
            raise AnswerGivenUpError
        try:
            await noticing_waits(self._send(message), self.hold.lend)
        finally:
            self.share.shrink(size)
        if message["type"] == "http.response.start" or message.get("more_body", False):
            await self.hold.resume_in_turn()

    async def respond(self, response: Response) -> None:
        """Answer with a value, when no handler is at work any more."""
        self.hold = None
        body = response.body
        headers = [*response.headers, (b"content-length", b"%d" % len(body))]
        if response.status == 204:
            headers.pop()
        await self.send({"type": "http.response.start", "status": response.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def respond_at_once(self, response: Response, exchange: Exchange) -> None:
        """Answer with a value in one write, when no handler is at work any more. Raises `AnswerGivenUpError`."""
        if exchange.is_head:
            await self.respond(response)
            return
        if not self.share.grow(len(response.body)):
            raise AnswerGivenUpError
        headers = [*response.headers, *self._headers]
        await exchange.answer(response.status, headers, response.body, self._begin)

    def _begin(self, status: int) -> None:
        self.status = status
        self.begun = trio.current_time()
