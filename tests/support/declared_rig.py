"""A registry in which a configuration declares services, and a resolver of the test's."""

from contextlib import asynccontextmanager
from ipaddress import ip_address

import httpx
import trio

from econeura_daemon.core.jsons import loads
from econeura_daemon.core.settings import DiscoverySettings, ServiceSettings
from econeura_daemon.registry import Declared
from tests.support.clocks import TrioClock
from tests.support.inline_store import open_inline_store
from tests.support.registry_rig import open_rig

SETTINGS = DiscoverySettings(resolve_interval_ms=30_000)
ONE = ServiceSettings(type="db", host="10.0.0.7", port=5432, id="db-1")
TWO = ServiceSettings(type="db", host="10.0.0.8", port=5432, id="db-2")
NAMED = ServiceSettings(type="web", host="Web.example.", port=80, id="web", resolve=True)


class Names:
    """A resolver of the test's: ``answers`` are addresses, an error in words, or an event to hang on."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked = []

    async def __call__(self, host):
        await trio.lowlevel.checkpoint()
        self.asked.append((host, trio.current_time()))
        answer = self.answers[host]
        if isinstance(answer, trio.Event):
            await answer.wait()
            answer = self.answers[host] = []
        if isinstance(answer, str):
            raise httpx.ConnectError(answer)
        return [ip_address(one) for one in answer]


async def no_names(host):
    raise AssertionError(f"nobody asked for {host!r} to be resolved")


@asynccontextmanager
async def open_declared(rig, *services, resolve=no_names):
    declared = Declared(rig.registry, resolve, SETTINGS, services)
    async with trio.open_nursery() as nursery:
        await nursery.start(declared.run)
        yield declared
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened(*services, resolve=no_names, probe=None):
    async with (
        open_inline_store() as store,
        open_rig(store, TrioClock(), probe) as rig,
        open_declared(rig, *services, resolve=resolve) as declared,
    ):
        yield store, rig, declared


def ids(rig):
    return sorted(one.id for members in rig.registry.snapshot().types.values() for one in members)


def hosts(rig):
    return sorted(one.registration.host for one in rig.registry.snapshot().resolve("web"))


async def told(rig, pattern):
    """Return the data of the events that match, oldest first."""
    return [loads(one.body)["data"] for one in reversed(await rig.log.page(type=pattern, limit=250))]
