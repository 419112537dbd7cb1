"""Cron's rung: the ticker with what its jobs may do."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from types import MappingProxyType

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.jobs import Task
from econeura_daemon.core.settings import CronJobSettings, Settings
from econeura_daemon.cron import (
    Call,
    Cron,
    Look,
    Reports,
    Run,
    Tasks,
    Told,
    open_cron,
    told_by_the_daemon,
)
from econeura_daemon.events import EventLog
from econeura_daemon.storage import Store
from econeura_daemon.storage.model import Claimant
from econeura_daemon.supervision.backups import back_up
from econeura_daemon.supervision.cleaning import forget_old
from econeura_daemon.supervision.drain import Drain
from econeura_daemon.supervision.loops import Loops
from econeura_daemon.supervision.reloading import Reloader
from econeura_daemon.supervision.state_dir import StateDir
from econeura_daemon.telemetry import ComponentHealth, HealthBoard, Metrics

NONE: Tasks = MappingProxyType({})
BEHIND_MS = 30_000
"""By so much a look at what is due may be late before it is said."""


@asynccontextmanager
async def open_crons(
    *,
    settings: Settings,
    clock: Clock,
    rng: Random,
    state: StateDir,
    store: Store,
    events: EventLog,
    call: Call,
    tasks: Tasks = NONE,
    own: Sequence[CronJobSettings] = (),
    tell: Callable[[Run, str], Sequence[Told]] = told_by_the_daemon,
    reloader: Reloader,
    metrics: Metrics,
    health: HealthBoard,
    loops: Loops,
    drain: Drain,
) -> AsyncGenerator[Cron]:
    """Run what is due for the length of the block, services by ``call``; leave it drained.

    ``tasks``, ``own`` and ``tell`` are what a process has beside what all have: tasks, jobs that it declares itself,
    and its own events of runs that end.
    """
    is_shared = store.statistics().backend != "sqlite"
    claimant = Claimant(state.daemon_id, state.run_id, settings.cron.lease_ms if is_shared else None)
    reports = Reports(events, rng, counted=lambda status: metrics.cron_runs.inc(status.value), tell=tell)
    opened: list[Cron] = []

    async def clean_up(_run: Run) -> str:
        return await forget_old(reloader.settings, store, events, opened[0], clock)

    async def copy(_run: Run) -> str:
        return await back_up(settings.storage, state.path, clock)

    async with open_cron(
        store=store,
        reports=reports,
        claimant=claimant,
        settings=settings.cron,
        call=call,
        tasks={Task.CLEANUP: clean_up, Task.BACKUP: copy, **tasks},
        own=own,
        observer=_Observer(metrics),
        clock=clock,
        rng=rng,
        supervised=loops.supervised,
        drain_until=drain.deadline,
    ) as cron:
        opened.append(cron)
        drain.closes(cron.ticker.stop)
        reloader.follow(lambda new: cron.use(new.cron))
        metrics.gauge("cron_running", "Runs of jobs under way", lambda: len(cron.running.under_way))
        health.add("ticker", lambda: ticker_health(loops.health_of("cron"), cron))
        yield cron


def ticker_health(loops: ComponentHealth, cron: Cron) -> ComponentHealth:
    """Tell how the ticker's loops are, and whether it keeps up."""
    ticker = cron.ticker
    if not cron.settings.enabled:
        return ComponentHealth("healthy", "switched off (cron.enabled = false)")
    detail = f"{loops.detail}; {len(cron.running.under_way)} runs under way"
    if ticker.behind_ms > BEHIND_MS:
        late = f"{detail}, behind by {ticker.behind_ms / 1000:.0f} s"
        return ComponentHealth("degraded" if loops.status == "healthy" else loops.status, late)
    return ComponentHealth(loops.status, detail)


class _Observer:
    """The ticker's `Observer`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def looked(self, look: Look) -> None:
        """Note how late what was taken was."""
        if look.late_ms is not None:
            self._metrics.cron_lateness_seconds.observe(look.late_ms / 1000)
