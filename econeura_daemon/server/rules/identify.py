"""Gives every request its id and context."""

import re
from collections.abc import Mapping, Sequence
from random import Random

from econeura_daemon.server.asgi import Header
from econeura_daemon.server.connection import Drain, new_request_id
from econeura_daemon.server.context import Peer, Principal, RequestContext
from econeura_daemon.telemetry.trace import parse_traceparent

_ID = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?")
"""At most 128 printable characters (docs/http-api.md)."""


class Identify:
    """``X-Request-ID`` is the caller's, if it fits; ``traceparent`` that is invalid counts as absent, as W3C
    Trace Context says in section 3.2.
    """

    def __init__(self, drain: Drain, rng: Random) -> None:
        self._drain = drain
        self._rng = rng

    def anew(self, peer: Peer, principal: Principal) -> RequestContext:
        """Return the context of a new request that brings no ids and whose principal is known."""
        return RequestContext(
            request_id=new_request_id(self._rng),
            peer=peer.name,
            principal=principal,
            draining=self._drain.begun,
        )

    def __call__(self, headers: Sequence[Header], first: Mapping[bytes, bytes], peer: Peer) -> RequestContext:
        """Return the context of a new request."""
        given = first.get(b"x-request-id")
        request_id = given.decode() if given and _ID.fullmatch(given) else new_request_id(self._rng)
        context = RequestContext(request_id=request_id, peer=peer.name, draining=self._drain.begun)
        parent = first.get(b"traceparent")
        if parent is not None:
            states = [value for name, value in headers if name == b"tracestate"]
            trace = parse_traceparent(parent.decode("latin-1"), b",".join(states).decode("latin-1"))
            if trace is not None:
                context.traceparent, context.tracestate = trace.traceparent, trace.tracestate
        return context
