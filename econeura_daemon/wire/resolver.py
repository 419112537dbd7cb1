"""Names to addresses, in threads of its own, so that a name server that hangs holds up no other work.

Other look-ups it does hold up, once as many names hang at the same time as there are threads.
"""

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address

import attrs
import httpx
import trio

from econeura_daemon.core.hosts import literal_address

LOOKUP_THREADS = 32
"""Look-ups at once. Each name has at most one, so 32 names must hang before a 33rd waits."""
MAX_ADDRESSES = 8
"""Of one name that are tried."""

Resolve = Callable[[str], Awaitable[Sequence[IPv4Address | IPv6Address]]]
"""Gives every address of a name, in the order in which to try them. Raises `httpx.ConnectError` in words."""


@attrs.define
class _Lookup:
    """One look-up under way, and who waits for it."""

    done: trio.Event = attrs.field(factory=trio.Event)
    addresses: list[IPv4Address | IPv6Address] = attrs.field(factory=list)
    error: str | None = "the look-up was abandoned"


class Resolver:
    """Asks the system (``getaddrinfo``: hosts file, then DNS). Who asks for a name under way joins in."""

    def __init__(self, nursery: trio.Nursery, threads: int = LOOKUP_THREADS) -> None:
        self._nursery = nursery
        self._limiter = trio.CapacityLimiter(threads)
        self._pending: dict[str, _Lookup] = {}

    async def __call__(self, host: str) -> Sequence[IPv4Address | IPv6Address]:
        """Return every address of ``host``; a caller that is cancelled leaves the look-up to the others.

        Raises `httpx.ConnectError` with the reason in words.
        """
        literal = literal_address(host)
        if literal is not None:
            await trio.lowlevel.checkpoint()
            return [literal]
        lookup = self._pending.get(host)
        if lookup is None:
            lookup = self._pending[host] = _Lookup()
            self._nursery.start_soon(self._look_up, host, lookup)
        await lookup.done.wait()
        if lookup.error is not None:
            raise httpx.ConnectError(lookup.error)
        return lookup.addresses

    async def _look_up(self, host: str, lookup: _Lookup) -> None:
        try:
            answers = await trio.to_thread.run_sync(
                _getaddrinfo, host, abandon_on_cancel=True, limiter=self._limiter
            )
            lookup.addresses, lookup.error = _in_order(answers), None
        except socket.gaierror as error:
            lookup.error = f"the name {host!r} cannot be resolved: {error.strerror or error}"
        except (OSError, ValueError, RuntimeError) as error:  # no form for the DNS; no thread to be had
            lookup.error = f"the name {host!r} cannot be resolved: {error}"
        finally:
            del self._pending[host]
            lookup.done.set()


@asynccontextmanager
async def open_resolver() -> AsyncGenerator[Resolver]:
    """Resolve for the length of the block; look-ups that still hang at its end are abandoned."""
    async with trio.open_nursery() as nursery:
        yield Resolver(nursery)
        nursery.cancel_scope.cancel()


def _getaddrinfo(host: str) -> list[str]:
    return [str(answer[4][0]) for answer in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def _in_order(answers: Sequence[str]) -> list[IPv4Address | IPv6Address]:
    """Return them in the system's order (RFC 6724), the second of another family (RFC 8305 section 4)."""
    addresses = [ip_address(text) for text in dict.fromkeys(answers)]
    other = next((place for place, one in enumerate(addresses) if one.version != addresses[0].version), None)
    if other is not None:
        addresses.insert(1, addresses.pop(other))
    return addresses
