"""Counts every answer, and writes one line of the access log each, if that is wanted."""

import logging

import trio

from econeura_daemon.server.connection import HttpTelemetry
from econeura_daemon.server.requests import Request

log = logging.getLogger(__name__)

CLIENT_CLOSED = 499
"""What is counted where the client left before an answer began; nginx's number for it."""


class Observe:
    """Tells telemetry of each answer: from the head of the request to the end of the answer, in seconds.

    A long-lived response is counted by the time until it began: how long a reader stays says nothing about
    us.
    """

    def __init__(self, telemetry: HttpTelemetry, *, access_log: bool) -> None:
        self._telemetry = telemetry
        self._in_flight = telemetry.http_requests_in_flight
        self._access_log = access_log
        self._now = trio.lowlevel.current_clock().current_time  # a third of what trio.current_time costs

    def begin(self) -> float:
        """Note that a request has come; return the instant, by Trio's clock."""
        self._in_flight.add(1)
        return self._now()

    def end(self, request: Request, status: int, begun: float, answered: float | None = None) -> None:
        """Note its answer (``status`` 0: there was none), which began at ``answered``."""
        self._in_flight.add(-1)
        status = status or CLIENT_CLOSED
        context = request.context
        end = answered if context.is_long_lived and answered else self._now()
        self._telemetry.request_done(request.method, context.route, status, end - begun)
        if self._access_log:
            log.info(
                "%s %s %d",
                request.method,
                request.path,
                status,
                extra={
                    "request_id": context.request_id,
                    "peer": context.peer,
                    "principal": context.principal.name,
                    "duration_ms": round((trio.current_time() - begun) * 1000, 1),
                },
            )
