"""What every request carries through the layers to its route: ``scope["econeura"]``."""

import ipaddress
import socket
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import attrs
import trio

from econeura_daemon.server.asgi import AsgiScope


class Scope(StrEnum):
    """What a token may do."""

    READ = "read"
    PUBLISH = "publish"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)

ScopeOf = Callable[[str, str], Scope | None]
"""Of a method and a path: the scope that a caller needs; None: open to all."""


@attrs.frozen
class Principal:
    """Who calls, and what they may do."""

    name: str
    scopes: frozenset[Scope]


ANONYMOUS = Principal("anonymous", frozenset())
LOCAL = Principal("local", ALL_SCOPES)
"""A peer on the loopback interface or the unix socket, without a token."""


@attrs.frozen
class Peer:
    """The other end of a connection."""

    name: str
    """``127.0.0.1:40312``, or ``unix``."""
    is_local: bool
    """On this machine: the loopback interface or a unix socket."""
    is_unix: bool = False

    @classmethod
    def of(cls, family: int, address: Any) -> "Peer":
        """Describe the peer at the ``address`` that `socket.getpeername` told."""
        if family == socket.AF_UNIX:
            return cls("unix", is_local=True, is_unix=True)
        host, port = address[0], address[1]
        shown = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
        return cls(shown, is_local=is_loopback(host))


def is_loopback(host: str) -> bool:
    """Tell whether an address belongs to this machine alone; an IPv4 address inside an IPv6 one counts as
    itself.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _nothing() -> None:
    """Give back a slot that nobody holds."""


@attrs.define(kw_only=True)
class RequestContext:
    """One request, as the layers know it. Routes read it; they set ``route`` only."""

    request_id: str
    traceparent: str | None = None
    tracestate: str | None = None
    peer: str
    principal: Principal = ANONYMOUS
    service_authorization: bytes | None = attrs.field(default=None, repr=False)
    """``Authorization`` of a request that goes on to a service, if it is for that service."""
    route: str | None = None
    """The metric's label, set by the application: the pattern, never the path."""
    draining: trio.Event = attrs.field(factory=trio.Event, repr=False)
    """Set when the server stops: streams end themselves then."""
    is_long_lived: bool = False
    release: Callable[[], None] = attrs.field(default=_nothing, repr=False)
    """Gives back the slot among ``max_concurrent_requests`` (set by the layer that sheds load)."""

    def long_lived(self) -> None:
        """Say that this response streams or waits for long: it stops counting as a request being handled."""
        self.is_long_lived = True
        self.release()
        self.release = _nothing

    @staticmethod
    def of(scope: AsgiScope) -> "RequestContext":
        """Return the context of a request that came through the layers."""
        context: RequestContext = scope["econeura"]
        return context
