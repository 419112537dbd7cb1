"""Connections to checked addresses only.

A name is resolved, *every* answer goes past the guard, and the connection is made to an address that was
checked and not to the name, so that nothing can change in between (DNS rebinding). One refused answer refuses
the name: who mixes public and internal addresses is wrong or up to something. Certificates are verified for
the name.
"""

import errno
import os
import ssl
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

import httpx
import trio

from econeura_daemon.wire.egress import EgressGuard
from econeura_daemon.wire.resolver import MAX_ADDRESSES, Resolve

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

    async def open_tcp(self, host: str, port: int, timeout: float = float("inf")) -> trio.SocketStream:
        """Connect to the first address of ``host`` that answers, within ``timeout`` seconds in all.

        Each address gets its share of what is left, so that a dead one does not eat the time of the next.
        """
        deadline = trio.current_time() + timeout
        addresses: Sequence[IPv4Address | IPv6Address] = ()
        with trio.move_on_at(deadline) as scope:
            addresses = await self._resolve(host)
        if scope.cancelled_caught:
            raise httpx.ConnectTimeout(f"the name {host!r} was not resolved within {_ms(timeout)} ms")
        if not addresses:
            raise httpx.ConnectError(f"the name {host!r} has no address")
        for address in addresses:
            self._guard.check(address)
        return await _connect_to_one(addresses[:MAX_ADDRESSES], port, deadline)

    async def context(self) -> ssl.SSLContext:
        """Return the one TLS context: reading the system's certificates takes tens of ms, so in a thread."""
        if self._context is None:
            async with self._context_lock:
                if self._context is None:
                    self._context = await trio.to_thread.run_sync(self._make_context)
        return self._context

    async def start_tls(
        self, stream: trio.abc.Stream, host: str, context: ssl.SSLContext, timeout: float = float("inf")
    ) -> "trio.SSLStream[trio.abc.Stream]":
        """Return ``stream`` under TLS, the certificate verified for ``host``. On failure it is closed."""
        # Peers close without close_notify; HTTP's own framing tells a cut answer (RFC 9112 9.8).
        tls = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
        try:
            with trio.fail_after(timeout):
                await tls.do_handshake()
        except trio.TooSlowError:
            await trio.aclose_forcefully(stream)
            raise httpx.ConnectTimeout(
                f"the TLS handshake with {host} took more than {_ms(timeout)} ms"
            ) from None
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            await trio.aclose_forcefully(stream)
            raise httpx.ConnectError(f"TLS with {host} failed: {_tls_reason(error)}") from None
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return tls


async def _connect_to_one(
    addresses: Sequence[IPv4Address | IPv6Address], port: int, deadline: float
) -> trio.SocketStream:
    failures: list[str] = []
    timed_out = False
    for place, address in enumerate(addresses):
        share = max(0, deadline - trio.current_time()) / (len(addresses) - place)
        with trio.move_on_after(share) as scope:
            outcome = await _connect(address, port)
            if isinstance(outcome, trio.SocketStream):
                return outcome
            failures.append(outcome)
        if scope.cancelled_caught:
            timed_out = True
            failures.append(f"no connection to {_name(address, port)} within {_ms(share)} ms")
    raise (httpx.ConnectTimeout if timed_out else httpx.ConnectError)("; ".join(dict.fromkeys(failures)))


async def _connect(address: IPv4Address | IPv6Address, port: int) -> trio.SocketStream | str:
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
    return trio.SocketStream(sock)  # a connect that is cancelled closes its socket by itself


def _name(address: IPv4Address | IPv6Address, port: int) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def _os_reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno is not None else str(error)


def _tls_reason(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate does not verify: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return (cause.reason or str(cause)).replace("_", " ").lower()
        if isinstance(cause, OSError):
            return _os_reason(cause)
        cause = cause.__cause__
    return "the connection was closed during the handshake"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
