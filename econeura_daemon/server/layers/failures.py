"""Turns what the application should have caught into a 500 that tells nothing."""

import logging

from econeura_daemon.core.clock import Clock
from econeura_daemon.server.asgi import App, AsgiScope, Message, Receive, Send
from econeura_daemon.server.context import RequestContext
from econeura_daemon.server.problems import Problem, send_problem

log = logging.getLogger(__name__)


class CatchFailures:
    """A 500 for an escaped exception and for an application that answers nothing; the log has the traceback.

    If the answer had begun, it is left unfinished: the connection closes and the client sees a truncated
    answer.
    """

    def __init__(self, app: App, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        context = RequestContext.of(scope)
        is_started = False

        async def send_noticed(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noticed)
        except* Exception:
            log.exception("a request failed", extra={"request_id": context.request_id, "path": scope["path"]})
        if not is_started:
            problem = Problem.of(
                "internal-error", f"A bug of the daemon's; its log tells of request {context.request_id}."
            )
            await send_problem(send, problem, context, self._clock)
