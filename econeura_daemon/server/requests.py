"""A request and an answer as values: what rules look at, and what hot routes are made of."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs

from econeura_daemon.server.asgi import AsgiScope, Header
from econeura_daemon.server.context import Peer, RequestContext


@attrs.define(eq=False)
class Request:
    """One request's head, its context, and for a hot route its body."""

    method: str
    path: str
    headers: Sequence[Header]
    """Names in lower case."""
    first: Mapping[bytes, bytes]
    """The first value of each name."""
    peer: Peer
    address: str | None
    """The host part of the address that was connected to; None: a unix socket."""
    context: RequestContext
    body: bytes = attrs.field(default=b"", repr=False)

    def values(self, name: bytes) -> list[str]:
        """Return every value of a header (``name`` in lower case)."""
        if name not in self.first:
            return []
        return [value.decode("latin-1") for key, value in self.headers if key == name]


@attrs.define
class Response:
    """A whole answer. The server adds length, date, and the request's id."""

    status: int
    body: bytes = attrs.field(repr=False)
    headers: list[Header] = attrs.field(factory=list)


HotFunction = Callable[[Request], Awaitable[Response]]
"""Answers a request whose body is there. It may raise: a bug's 500 is the server's to give.

A client that leaves does not cancel it: what it does is short.
"""


@attrs.frozen
class HotRoute:
    """A function, and the label of its metrics."""

    function: HotFunction
    label: str


HotRoutes = Mapping[tuple[str, str], HotRoute]
"""By method and path. A request with a query is none of theirs."""


def address_of(scope: AsgiScope) -> str | None:
    """Return the address that was connected to, None for a unix socket."""
    server = scope.get("server")
    return None if server is None or server[1] is None else str(server[0])
