"""Discovery's rungs: the registry with what the configuration declares, the prober, the daemon's own entry."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from random import Random

from econeura_daemon.api import Discovery, Services
from econeura_daemon.client import open_client
from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import Settings
from econeura_daemon.daemon.calling import mesh_health, mesh_observer, use_mesh
from econeura_daemon.daemon.itself import Itself
from econeura_daemon.daemon.observing import observe_registry, prober_health, registry_health
from econeura_daemon.events import EventLog, QueuedEvents
from econeura_daemon.probes import open_probe_client, open_prober
from econeura_daemon.registry import Declared, open_registry
from econeura_daemon.storage import Store
from econeura_daemon.supervision.drain import Drain
from econeura_daemon.supervision.loops import Loops, open_loop
from econeura_daemon.supervision.reloading import Reloader
from econeura_daemon.supervision.state_dir import StateDir
from econeura_daemon.supervision.watchdog import boot_time
from econeura_daemon.telemetry import HealthBoard, Metrics
from econeura_daemon.wire.resolver import open_resolver

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_discovery(
    *,
    settings: Settings,
    clock: Clock,
    rng: Random,
    state: StateDir,
    store: Store,
    events: EventLog,
    reloader: Reloader,
    metrics: Metrics,
    health: HealthBoard,
    loops: Loops,
    drain: Drain,
) -> AsyncGenerator[Discovery | None]:
    """The registry and what is declared in it, its callers, the prober; None where discovery is switched off."""
    if not settings.discovery.enabled:
        if settings.services:
            _log.warning(
                "discovery.enabled is false: the %d static services are not used", len(settings.services)
            )
        yield None
        return
    queued = QueuedEvents(store, events, clock, rng)
    metrics.counter("events_dropped", "Events that found no room in the queue", lambda: queued.dropped)
    async with (
        open_loop(loops.supervised("events.queued", queued.run)),
        open_registry(
            store=store,
            log=events,
            settings=settings.discovery,
            daemon_id=state.daemon_id,
            clock=clock,
            rng=rng,
            boot_time=boot_time,
            supervised=loops.supervised,
        ) as registry,
        open_client(
            resolve=lambda name: registry.snapshot().resolve(name),
            settings_of=settings.mesh_of,
            rng=rng,
            observer=mesh_observer(metrics, queued, clock),
        ) as calling,
        open_resolver() as resolve,
        open_probe_client() as probing,
        open_prober(
            registry=registry,
            probe=probing.probe,
            clock=clock,
            rng=rng,
            max_in_flight=settings.discovery.max_probes,
        ) as prober,
    ):
        drain.closes(registry.watches.close)
        drain.closes(prober.drain)
        declared = Declared(registry, resolve, settings.discovery, settings.services)
        reloader.follow(lambda new: declared.use(new.services))
        use_mesh(calling.mesh, settings)
        reloader.follow(lambda new: use_mesh(calling.mesh, new))
        observe_registry(metrics, registry, prober)
        health.add("registry", lambda: registry_health(loops.health_of("registry"), registry))
        health.add("prober", lambda: prober_health(loops.health_of("registry"), prober))
        health.add("mesh", lambda: mesh_health(calling.mesh))
        async with open_loop(loops.supervised("registry.declared", declared.run)):
            yield Discovery(registry=registry, prober=prober, mesh=calling.mesh)


@asynccontextmanager
async def open_itself(services: Services, urls: list[str], loops: Loops) -> AsyncGenerator[None]:
    """The daemon's own entry in the registry, once it can be reached, and its heartbeat."""
    if services.discovery is None:
        yield
        return
    itself = Itself(
        services.registry, services.settings.discovery, services.log.passing, services.clock, services.rng
    )
    async with open_loop(loops.supervised("itself", partial(itself.run, urls))):
        yield
