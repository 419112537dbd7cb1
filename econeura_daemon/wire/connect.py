"""Connections to checked addresses only.

A name is resolved, *every* answer goes past the guard, and the connection is made to an address that was
checked and not to the name, so that nothing can change in between (DNS rebinding). One refused answer refuses
the name: who mixes public and internal addresses is wrong or up to something. Certificates are verified for
the name.
"""

import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

import httpx
import trio

from econeura_daemon.wire.connection import Connection, ssl_reason
from econeura_daemon.wire.egress import EgressGuard
from econeura_daemon.wire.resolver import MAX_ADDRESSES, Resolve
from econeura_daemon.wire.tls import TlsConnection

MakeContext = Callable[[], ssl.SSLContext]


class Connector:
    """Opens connections. Raises `httpx.TransportError` in words, `EgressRefusedError` from the guard."""

    def __init__(
        self, guard: EgressGuard, resolve: Resolve, make_context: MakeContext = ssl.create_default_context
    ) -> None:
        self._guard = guard
        self._resolve = resolve
        self._make_context = make_context
        self._context: ssl.SSLContext | None = None
        self._context_lock = trio.Lock()

    def use(self, guard: EgressGuard) -> None:
        """Ask another guard from the next connection on."""
        self._guard = guard

    @property
    def guard(self) -> EgressGuard:
        """Who is asked at present. Connections that another one let through are not to be used any more."""
        return self._guard

    async def open(
        self, host: str, port: int, timeout: float = float("inf"), *, tls: bool, name: str | None = None
    ) -> Connection:
        """Connect, under TLS if asked to, within ``timeout`` seconds in all; ``name``: whose certificate, if
        it is not the host's.

        The one making of the context is not the peer's fault and does not count.
        """
        context = await self.context() if tls else None
        deadline = trio.current_time() + timeout
        connected = await self.open_tcp(host, port, timeout)
        if context is None:
            return Connection(connected)
        return await self.start_tls(connected, name or host, context, max(0, deadline - trio.current_time()))

    async def open_tcp(self, host: str, port: int, timeout: float = float("inf")) -> socket.socket:
        """Connect to the first address of ``host`` that answers, within ``timeout`` seconds in all.

        Each address gets its share of what is left, so that a dead one does not eat the time of the next.
        """
        return await self._open_tcp(host, port, timeout, self._guard)

    async def open_unchecked(self, host: str, port: int, timeout: float = float("inf")) -> socket.socket:
        """Do the same for a host that the operator named: no guard is asked."""
        return await self._open_tcp(host, port, timeout, None)

    async def _open_tcp(
        self, host: str, port: int, timeout: float, guard: EgressGuard | None
    ) -> socket.socket:
        deadline = trio.current_time() + timeout
        addresses: Sequence[IPv4Address | IPv6Address] = ()
        with trio.move_on_at(deadline) as scope:
            addresses = await self._resolve(host)
        if scope.cancelled_caught:
            raise httpx.ConnectTimeout(f"the name {host!r} was not resolved within {_ms(timeout)} ms")
        if not addresses:
            raise httpx.ConnectError(f"the name {host!r} has no address")
        if guard is not None:
            for address in addresses:
                guard.check(address)
        return await _connect_to_one(addresses[:MAX_ADDRESSES], port, deadline)

    @property
    def make_context(self) -> MakeContext:
        """What makes a TLS context of those that it trusts."""
        return self._make_context

    async def context(self) -> ssl.SSLContext:
        """Return the one TLS context: reading the system's certificates takes tens of ms, so in a thread."""
        if self._context is None:
            async with self._context_lock:
                if self._context is None:
                    context = await trio.to_thread.run_sync(self._make_context)
                    context.options |= ssl.OP_NO_RENEGOTIATION  # a send would wait for the peer's word
                    self._context = context
        return self._context

    async def start_tls(
        self, connected: socket.socket, host: str, context: ssl.SSLContext, timeout: float = float("inf")
    ) -> Connection:
        """Return ``connected`` under TLS, the certificate verified for ``host``. On failure it is closed."""
        try:
            tls = TlsConnection(connected, context, host)
            with trio.fail_after(timeout):
                await tls.shake_hands()
        except trio.TooSlowError:
            connected.close()
            raise httpx.ConnectTimeout(
                f"the TLS handshake with {host} took more than {_ms(timeout)} ms"
            ) from None
        except OSError as error:
            connected.close()
            raise httpx.ConnectError(f"TLS with {host} failed: {tls_reason(error)}") from None
        except BaseException:
            connected.close()
            raise
        return tls


async def _connect_to_one(
    addresses: Sequence[IPv4Address | IPv6Address], port: int, deadline: float
) -> socket.socket:
    failures: list[str] = []
    timed_out = False
    for place, address in enumerate(addresses):
        share = max(0, deadline - trio.current_time()) / (len(addresses) - place)
        with trio.move_on_after(share) as scope:
            outcome = await _connect(address, port)
            if isinstance(outcome, str):
                failures.append(outcome)
            else:
                return outcome
        if scope.cancelled_caught:
            timed_out = True
            failures.append(f"no connection to {_name(address, port)} within {_ms(share)} ms")
    raise (httpx.ConnectTimeout if timed_out else httpx.ConnectError)("; ".join(dict.fromkeys(failures)))


async def _connect(address: IPv4Address | IPv6Address, port: int) -> socket.socket | str:
    family = trio.socket.AF_INET if address.version == 4 else trio.socket.AF_INET6
    try:
        sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    except OSError as error:
        return f"no socket for {_name(address, port)}: {_os_reason(error)}"
    try:
        await sock.connect((str(address), port))
    except OSError as error:
        sock.close()
        if error.errno == errno.ECONNREFUSED:
            return f"connection refused by {_name(address, port)}"
        return f"no connection to {_name(address, port)}: {_os_reason(error)}"
    sock.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )  # a connect that is cancelled closes its socket
    connected = socket.socket(fileno=sock.detach())
    connected.setblocking(False)
    return connected


def _name(address: IPv4Address | IPv6Address, port: int) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def _os_reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno is not None else str(error)


def tls_reason(error: BaseException | None) -> str:
    """Return why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return ssl_reason(error)
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLEOFError):
        return _os_reason(error)
    return "the connection was closed during the handshake"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
