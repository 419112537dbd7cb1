"""Refuses requests that were meant for another host: the way in of DNS rebinding."""

from collections.abc import Iterable

from econeura_daemon.server.context import is_loopback
from econeura_daemon.server.problems import Problem
from econeura_daemon.server.requests import Request

_MEMORY = 256
"""Hosts that were found to be ours and are remembered."""


class CheckHost:
    """421 for a ``Host`` that is not the bind's own name, the address that was connected to, a loopback name,
    or listed.

    A page of a foreign site whose name was rebound to 127.0.0.1 still sends its own name. The port does not
    matter (forwarded ports differ). A unix socket is out of every browser's reach, so its clients may say
    anything; so may one that speaks HTTP/1.0 and sends no Host, as no browser does.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(_bare(name.lower()) for name in names)
        self._known: set[tuple[bytes, str | None]] = set()

    def __call__(self, request: Request) -> Problem | None:
        """Return the refusal of a request that is not for us."""
        host = request.first.get(b"host")
        if host is None or (host, request.address) in self._known or request.peer.is_unix:
            return None
        name = host_name(host)
        if not self._is_ours(name, request.address):
            return Problem.of(
                "misdirected-request",
                f"The daemon does not answer to {name!r}; http.allowed_hosts lists further names.",
            )
        if len(self._known) >= _MEMORY:  # 127.0.0.0/8 and ports make many
            self._known.clear()
        self._known.add((host, request.address))
        return None

    def _is_ours(self, name: str, address: str | None) -> bool:
        return name == "localhost" or name in self._names or name == address or is_loopback(name)


def host_name(host: bytes) -> str:
    """Return the name in a Host header: lower case, without port, brackets and final dot."""
    return _bare(host.decode("latin-1").lower())


def _bare(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    if host.count(":") > 1:
        return host  # an IPv6 address as settings write it
    return host.partition(":")[0].removesuffix(".")
