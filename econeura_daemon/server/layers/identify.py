"""Gives every request its id and context, and every answer the id."""

import re
from random import Random

from econeura_daemon.server.asgi import App, AsgiScope, Message, Receive, Send, header
from econeura_daemon.server.connection import Drain, new_request_id
from econeura_daemon.server.context import Peer, RequestContext
from econeura_daemon.telemetry.trace import parse_traceparent

_ID = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?")
"""At most 128 printable characters (docs/http-api.md)."""


class Identify:
    """Outermost: makes ``scope["econeura"]``; ``X-Request-ID`` is on every answer, also those that layers
    give.

    ``X-Request-ID`` is the caller's, if it fits. ``traceparent`` that is invalid counts as absent, as W3C
    Trace Context says in section 3.2.
    """

    def __init__(self, app: App, drain: Drain, rng: Random) -> None:
        self._app = app
        self._drain = drain
        self._rng = rng

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        given = header(scope, b"x-request-id")
        request_id = given.decode() if given and _ID.fullmatch(given) else new_request_id(self._rng)
        peer: Peer = scope["econeura.peer"]
        context = RequestContext(request_id=request_id, peer=peer.name, draining=self._drain.begun)
        if (parent := header(scope, b"traceparent")) is not None:
            states = [value for name, value in scope["headers"] if name == b"tracestate"]
            trace = parse_traceparent(parent.decode("latin-1"), b",".join(states).decode("latin-1"))
            if trace is not None:
                context.traceparent, context.tracestate = trace.traceparent, trace.tracestate
        scope["econeura"] = context

        async def send_identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"x-request-id"]
                headers.append((b"x-request-id", request_id.encode()))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_identified)
