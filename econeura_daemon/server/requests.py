"""A request and an answer as values: what rules look at, and what hot routes are made of."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs

from econeura_daemon.server.asgi import AsgiScope, Header, Receive, Send
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
    query: bytes = b""
    raw_path: bytes = b""
    """As it was sent."""
    scheme: str = "http"
    client: tuple[str, int] | None = None
    """Address and port of the other end; None: a unix socket."""

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

A client that leaves does not cancel it, unless the route `waits`: what it does is short.
"""

Streamed = Callable[[Send], Awaitable[None]]
"""Writes an answer as ASGI messages: one whose body is not there yet."""


@attrs.frozen
class Passage:
    """A route to elsewhere: any method, bodies of any size either way.

    ``answer`` is for a request whose body is there, ``app`` for all others: it writes the answer, or returns a whole
    one.
    ``scope["econeura.request"]`` is the request. The client's leaving cancels both.
    """

    answer: Callable[[Request], Awaitable[Response | Streamed]]
    app: Callable[[AsgiScope, Receive, Send], Awaitable[Response | None]]


FindPassage = Callable[[str], Passage | None]
"""Of a path: the passage that it leads to, if it is one."""

_ID = "{id}"


@attrs.frozen
class HotRoute:
    """A function, and the label of its metrics."""

    function: HotFunction
    label: str
    takes_query: bool = False
    waits: bool = False
    """It may take long, and is cancelled when its client leaves."""


HotRoutes = Mapping[tuple[str, str], HotRoute]
"""By method and path; ``{id}`` may stand for a path's last segment but one."""


class HotTable:
    """Finds the hot route of a request. One with a query is for those only that take it."""

    def __init__(self, routes: HotRoutes) -> None:
        self._exact = {key: route for key, route in routes.items() if _ID not in key[1]}
        self._below_id = {
            (method, *_around_id(path)): route for (method, path), route in routes.items() if _ID in path
        }

    def find(self, method: str, path: str, query: bytes) -> HotRoute | None:
        """Return the route of a request, None if it is none of these."""
        route = self._exact.get((method, path))
        if route is None:
            if not self._below_id:
                return None
            route = self._below_id.get((method, *_around_id(path)))
        return route if route is not None and (route.takes_query or not query) else None


def _around_id(path: str) -> tuple[str, str]:
    """Return what stands before the last segment but one, and the last: ``/v1/services`` and ``heartbeat``."""
    above, _, last = path.rpartition("/")
    return above.rpartition("/")[0], last


def address_of(scope: AsgiScope) -> str | None:
    """Return the address that was connected to, None for a unix socket."""
    server = scope.get("server")
    return None if server is None or server[1] is None else str(server[0])
