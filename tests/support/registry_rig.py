"""A registry and its prober around a probe of the test's, over the in-line store."""

from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from econeura_daemon.core.settings import DiscoverySettings
from econeura_daemon.events import EventLog
from econeura_daemon.probes import Outcome, Prober, ProbeResult, open_prober
from econeura_daemon.registry import Query, RegisterService, Registry, open_registry

PASS = ProbeResult(outcome=Outcome.PASS, detail="HTTP 200")
FAIL = ProbeResult(outcome=Outcome.FAIL, detail="HTTP 503 'db down'")


@attrs.define
class Rig:
    """What a test acts on."""

    registry: Registry
    prober: Prober
    log: EventLog

    def body(self, key, **fields):
        return RegisterService(**{"type": "web", "host": "127.0.0.1", "port": 80, "id": key, **fields})

    async def register(self, key, **fields):
        return (await self.registry.register(self.body(key, **fields))).instance

    def status(self, key):
        return self.registry.get(key).status.value

    def ids(self):
        return [one.id for one in self.registry.find(Query())]

    def statuses(self):
        return {one.status.value for one in self.registry.find(Query())}

    async def events(self, pattern="service.*"):
        return [one.type for one in reversed(await self.log.page(type=pattern, limit=250))]


@asynccontextmanager
async def open_rig(store, clock, probe=None, *, max_in_flight=64, boot_time=trio.current_time):
    async def well(_said, _check):
        await trio.lowlevel.checkpoint()
        return PASS

    log, rng = EventLog(store), Random(7)
    async with (
        open_registry(
            store=store,
            log=log,
            settings=DiscoverySettings(),
            daemon_id="dmn_1",
            clock=clock,
            rng=rng,
            boot_time=boot_time,
        ) as registry,
        open_prober(
            registry=registry, probe=probe or well, clock=clock, rng=rng, max_in_flight=max_in_flight
        ) as prober,
    ):
        yield Rig(registry, prober, log)
