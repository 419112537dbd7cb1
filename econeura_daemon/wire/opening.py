"""The outgoing transport of a daemon, from its settings."""

import resource
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.wire.connect import Connector, MakeContext
from econeura_daemon.wire.egress import EgressGuard
from econeura_daemon.wire.internal import InternalGuard
from econeura_daemon.wire.pool import Limits, Pool
from econeura_daemon.wire.resolver import Resolve, open_resolver
from econeura_daemon.wire.routes import Routes
from econeura_daemon.wire.transport import GuardedTransport

IDLE_SECONDS = 30.0
"""How long a connection is kept unused. Receivers keep theirs for 5 to 75 s."""


@asynccontextmanager
async def open_transport(
    settings: WebhookSettings,
    *,
    resolve: Resolve | None = None,
    make_context: MakeContext | None = None,
    limits: Limits | None = None,
) -> AsyncGenerator[GuardedTransport]:
    """Offer the transport for the length of the block; at its end every connection is closed.

    ``resolve`` and ``make_context`` stand in for the system's resolver and its trusted certificates.
    """
    guard = EgressGuard(settings.allowed_networks)
    async with open_resolver() as system:
        connector = Connector(guard, resolve or system, make_context or ssl.create_default_context)
        transport = GuardedTransport(connector, pool=Pool(limits or _no_limits()))
        transport.route(Routes.from_settings(settings))
        async with _open(transport):
            yield transport


@asynccontextmanager
async def open_internal_transport(
    *, resolve: Resolve | None = None, make_context: MakeContext | None = None
) -> AsyncGenerator[GuardedTransport]:
    """Offer a transport to registered instances for the length of the block; at its end every connection is closed.

    Its trust class is its own: internal networks may be called, and connections are shared with nobody else.
    Answers may be of any size; how many calls are under way is for the caller to bound.
    """
    async with open_resolver() as system:
        connector = Connector(
            InternalGuard("called"), resolve or system, make_context or ssl.create_default_context
        )
        transport = GuardedTransport(connector, max_answer_bytes=None, pool=Pool(_no_limits()))
        async with _open(transport):
            yield transport


@asynccontextmanager
async def _open(transport: GuardedTransport) -> AsyncGenerator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drop_idle_for_ever, transport)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
            await transport.aclose()


def _no_limits() -> Limits:
    """Return no limit of ours: the dispatcher's lanes and the mesh's limiters hold those.

    Kept is what leaves most files to others.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = 8192 if files == resource.RLIM_INFINITY else max(64, min(8192, files // 4))
    return Limits(per_host=10_000, in_all=10_000, idle_in_all=kept)


async def _drop_idle_for_ever(transport: GuardedTransport) -> None:
    while True:
        await trio.sleep(IDLE_SECONDS / 3)
        await transport.drop_idle(trio.current_time() - IDLE_SECONDS)
