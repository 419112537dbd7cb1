"""What all connections of a server share, and the seam at which the code that serves one is chosen."""

import socket
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import attrs

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server.connection import Drain, HttpTelemetry, new_request_id
from econeura_daemon.server.context import Peer
from econeura_daemon.server.gate import Gate
from econeura_daemon.server.http1_passes import AllPasses
from econeura_daemon.server.http1_response import DateLine
from econeura_daemon.server.problems import Problem, raw_response
from econeura_daemon.server.upkeep import Upkeep


@attrs.frozen(kw_only=True)
class Site:
    """What all connections of a server share."""

    gate: Gate
    settings: HttpSettings
    clock: Clock
    rng: Random
    telemetry: HttpTelemetry
    upkeep: Upkeep
    drain: Drain = attrs.field(factory=Drain)
    state: dict[str, Any] = attrs.field(factory=dict)
    """The application's lifespan state; each request's scope holds a shallow copy."""
    passes: AllPasses = attrs.field(factory=AllPasses)
    date: DateLine = attrs.field(init=False)

    @date.default
    def _make_date(self) -> DateLine:
        return DateLine(self.clock)

    def refusal(self, problem: Problem) -> tuple[bytes, str]:
        """Return the whole answer to what no application will see, and its id; count it."""
        request_id = new_request_id(self.rng)
        self.telemetry.request_done("-", None, problem.status, 0.0)
        return raw_response(problem, request_id, self.clock.now()), request_id


ServeConnection = Callable[[socket.socket, Peer, Site], Awaitable[None]]
"""Serve one connection, over its non-blocking socket, until it ends; the caller closes the socket. It may
raise: the caller guards the others.
"""
