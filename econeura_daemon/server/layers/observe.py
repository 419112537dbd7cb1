"""Counts every answer, and writes one line of the access log each, if that is wanted."""

import logging

import trio

from econeura_daemon.server.asgi import App, AsgiScope, Message, Receive, Send
from econeura_daemon.server.connection import HttpTelemetry
from econeura_daemon.server.context import RequestContext

log = logging.getLogger(__name__)

CLIENT_CLOSED = 499
"""What is counted where the client left before an answer began; nginx's number for it."""


class Observe:
    """Tells telemetry of each answer: from the head of the request to the end of the answer, in seconds.

    A long-lived response is counted by the time until it began: how long a reader stays says nothing about
    us.
    """

    def __init__(self, app: App, telemetry: HttpTelemetry, *, access_log: bool) -> None:
        self._app = app
        self._telemetry = telemetry
        self._access_log = access_log

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        context = RequestContext.of(scope)
        begun = trio.current_time()
        status = 0
        answered = begun

        async def send_observed(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = trio.current_time()
            await send(message)

        self._telemetry.http_requests_in_flight.add(1)
        try:
            await self._app(scope, receive, send_observed)
        finally:
            self._telemetry.http_requests_in_flight.add(-1)
            status = status or CLIENT_CLOSED
            end = answered if context.is_long_lived and answered > begun else trio.current_time()
            self._telemetry.request_done(scope["method"], context.route, status, end - begun)
            if self._access_log:
                log.info(
                    "%s %s %d",
                    scope["method"],
                    scope["path"],
                    status,
                    extra={
                        "request_id": context.request_id,
                        "peer": context.peer,
                        "principal": context.principal.name,
                        "duration_ms": round((trio.current_time() - begun) * 1000, 1),
                    },
                )
