"""Bounds a request's body, in bytes and in time."""

import trio

from econeura_daemon.core.clock import Clock
from econeura_daemon.server.asgi import App, AsgiScope, Message, Receive, Send, header
from econeura_daemon.server.context import RequestContext
from econeura_daemon.server.problems import Problem, send_problem

_CLOSE = [(b"connection", b"close")]


class _BodyRefusedError(Exception):
    """Raised into the application that reads a body which is not to be read on."""


class LimitBody:
    """413 for a body over the limit, told by its length or counted on the way; 408 for one that does not
    arrive in time.

    The time in which nobody reads does not count. After either answer the connection closes: the rest of the
    body is still on its way. An application that already answers keeps its answer, cut off.
    """

    def __init__(self, app: App, clock: Clock, *, max_bytes: int, timeout: float) -> None:
        self._app = app
        self._clock = clock
        self._max_bytes = max_bytes
        self._timeout = timeout

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        length = header(scope, b"content-length")
        if header(scope, b"transfer-encoding") is None and int(length or b"0") == 0:
            await self._app(scope, receive, send)
            return
        if length is not None and int(length) > self._max_bytes:
            await send_problem(send, self._too_large(), RequestContext.of(scope), self._clock)
            return
        await self._serve_bounded(scope, receive, send)

    async def _serve_bounded(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        refused: Problem | None = None
        is_started = is_complete = False
        size = 0
        patience = self._timeout

        async def receive_bounded() -> Message:
            nonlocal refused, is_complete, size, patience
            if is_complete:
                return await receive()
            begun = trio.current_time()
            message: Message | None = None
            with trio.move_on_after(max(0.0, patience)):  # a busy loop may overdraw it
                message = await receive()
            if message is None:
                refused = Problem.of(
                    "request-timeout", "The request's body did not arrive in time.", headers=_CLOSE
                )
                raise _BodyRefusedError
            patience -= trio.current_time() - begun
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                is_complete = not message.get("more_body", False)
            if size > self._max_bytes:
                refused = self._too_large()
                raise _BodyRefusedError
            return message

        async def send_noticed(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self._app(scope, receive_bounded, send_noticed)
        except* _BodyRefusedError:
            pass
        if refused is not None and not is_started:
            await send_problem(send, refused, RequestContext.of(scope), self._clock)

    def _too_large(self) -> Problem:
        return Problem.of(
            "payload-too-large", f"A request's body may have {self._max_bytes} bytes.", headers=_CLOSE
        )
