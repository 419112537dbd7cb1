"""The rung of the integration with workers services."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

from econeura_daemon.api import Discovery
from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import Settings
from econeura_daemon.events import EventLog
from econeura_daemon.storage import Store
from econeura_daemon.storage.model import Claimant
from econeura_daemon.supervision.drain import Drain
from econeura_daemon.supervision.loops import Loops
from econeura_daemon.supervision.reloading import Reloader
from econeura_daemon.supervision.state_dir import StateDir
from econeura_daemon.telemetry import ComponentHealth, HealthBoard, Metrics
from econeura_daemon.workers import Workers, open_workers


@asynccontextmanager
async def open_integration(
    *,
    settings: Settings,
    clock: Clock,
    rng: Random,
    state: StateDir,
    store: Store,
    events: EventLog,
    discovery: Discovery | None,
    reloader: Reloader,
    metrics: Metrics,
    health: HealthBoard,
    loops: Loops,
    drain: Drain,
) -> AsyncGenerator[Workers | None]:
    """Have workers called for the length of the block; None where discovery, without which there are none, is off."""
    if discovery is None:
        yield None
        return
    is_shared = store.statistics().backend != "sqlite"
    async with open_workers(
        store=store,
        events=events,
        mesh=discovery.mesh,
        settings=settings.workers,
        clock=clock,
        rng=rng,
        claimant=Claimant(state.daemon_id, state.run_id, settings.webhooks.lease_ms if is_shared else None),
        counted=lambda status, number: metrics.emails.inc(status.value, by=number),
        supervised=loops.supervised,
        drain_until=drain.deadline,
    ) as workers:
        drain.closes(workers.runner.stop)
        reloader.follow(lambda new: workers.use(new.workers))
        metrics.gauge("bulk_jobs_running", "Bulk jobs under way here", lambda: len(workers.runner))
        metrics.gauge("workers_waiting", "Calls that wait for workers", lambda: len(workers.waiting))
        health.add("workers", lambda: workers_health(loops.health_of("workers"), workers))
        yield workers


def workers_health(loops: ComponentHealth, workers: Workers) -> ComponentHealth:
    """Tell how the integration's loops are, and how much is under way; whether workers are there is not its health."""
    waiting = workers.waiting
    detail = f"{loops.detail}; {waiting.under_way} calls under way, {len(waiting)} wait"
    return ComponentHealth(loops.status, detail)
