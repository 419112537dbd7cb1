"""Refuses requests that were meant for another host: the way in of DNS rebinding."""

from collections.abc import Iterable

from econeura_daemon.core.clock import Clock
from econeura_daemon.server.asgi import App, AsgiScope, Receive, Send, header
from econeura_daemon.server.context import Peer, RequestContext, is_loopback
from econeura_daemon.server.problems import Problem, send_problem


class CheckHost:
    """421 for a ``Host`` that is not the bind's own name, the address that was connected to, a loopback name,
    or listed.

    A page of a foreign site whose name was rebound to 127.0.0.1 still sends its own name. The port does not
    matter (forwarded ports differ). A unix socket is out of every browser's reach, so its clients may say
    anything; so may one that speaks HTTP/1.0 and sends no Host, as no browser does.
    """

    def __init__(self, app: App, names: Iterable[str], clock: Clock) -> None:
        self._app = app
        self._names = frozenset(_bare(name.lower()) for name in names)
        self._clock = clock

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        peer: Peer = scope["econeura.peer"]
        host = header(scope, b"host")
        if peer.is_unix or host is None or self._is_ours(host, scope):
            await self._app(scope, receive, send)
            return
        problem = Problem.of(
            "misdirected-request",
            f"The daemon does not answer to {host_name(host)!r}; http.allowed_hosts lists further names.",
        )
        await send_problem(send, problem, RequestContext.of(scope), self._clock)

    def _is_ours(self, host: bytes, scope: AsgiScope) -> bool:
        name = host_name(host)
        if name == "localhost" or name in self._names or is_loopback(name):
            return True
        server = scope.get("server")
        return server is not None and name == server[0]


def host_name(host: bytes) -> str:
    """Return the name in a Host header: lower case, without port, brackets and final dot."""
    return _bare(host.decode("latin-1").lower())


def _bare(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    if host.count(":") > 1:
        return host  # an IPv6 address as settings write it
    return host.partition(":")[0].removesuffix(".")
