"""`open_cron`: jobs, the ticker and what it has running, for the length of a block."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import CronJobSettings, CronSettings
from econeura_daemon.cron.declared import Declared
from econeura_daemon.cron.jobs import Jobs
from econeura_daemon.cron.new_zones import NewZones, data_mark
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.running import Call, Running, Tasks
from econeura_daemon.cron.store.ticks import Taker
from econeura_daemon.cron.ticker import Observer, Ticker
from econeura_daemon.cron.upkeep import Upkeep
from econeura_daemon.storage import Store
from econeura_daemon.storage.model import Claimant

RunLoop = Callable[[str, Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]
"""Wraps a loop in supervision: (name, loop) to something that a nursery can start."""


def unsupervised(_name: str, loop: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Run a loop as it is."""
    return loop


@attrs.frozen(kw_only=True)
class Cron:
    """What stands while cron is open."""

    jobs: Jobs
    ticker: Ticker
    running: Running
    declared: Declared
    upkeep: Upkeep
    new_zones: NewZones
    _settings: "list[CronSettings]" = attrs.field(repr=False)

    @property
    def settings(self) -> CronSettings:
        """The settings in force."""
        return self._settings[0]

    def use(self, settings: CronSettings) -> None:
        """Go by other settings from now on."""
        self._settings[0] = settings
        self.running.use(settings.max_running)
        self.declared.use(settings.jobs)
        self.new_zones.look()


@asynccontextmanager
async def open_cron(
    *,
    store: Store,
    reports: Reports,
    claimant: Claimant,
    settings: CronSettings,
    call: Call,
    tasks: Tasks,
    own: Sequence[CronJobSettings] = (),
    observer: Observer,
    clock: Clock,
    rng: Random,
    zone_data: Callable[[], Awaitable[str]] = data_mark,
    supervised: RunLoop = unsupervised,
    drain_until: Callable[[], float] = lambda: float("inf"),
) -> AsyncGenerator[Cron]:
    """Tick for the length of the block; leave the block drained. ``own`` are jobs of the program itself.

    ``zone_data`` returns what tells the machine's time zone data from that of another version.

    Leaving waits for runs under way until ``drain_until()`` (on Trio's clock); what is left then is given back
    without costing an attempt.
    """
    in_force = [settings]
    async with trio.open_nursery() as loops:
        async with trio.open_nursery() as runs:
            running = Running(
                store=store,
                reports=reports,
                claimant=claimant,
                call=call,
                tasks=tasks,
                clock=clock,
                rng=rng,
                max_running=settings.max_running,
                nursery=runs,
            )
            ticker = Ticker(
                store=store,
                taker=Taker(reports, rng),
                running=running,
                claimant=claimant,
                clock=clock,
                keep_runs=lambda: in_force[0].keep_runs,
                observer=observer,
            )
            running.ended = ticker.wake
            if not settings.enabled:
                ticker.stop()
            upkeep = Upkeep(
                store=store,
                reports=reports,
                claimant=claimant,
                clock=clock,
                running=running,
                wake=ticker.wake,
            )
            declared = Declared(
                store=store, reports=reports, claimant=claimant, clock=clock, jobs=settings.jobs, own=own
            )
            jobs = Jobs(
                store=store,
                reports=reports,
                claimant=claimant,
                clock=clock,
                rng=rng,
                own=[job.key for job in own],
            )
            new_zones = NewZones(store=store, reports=reports, clock=clock, wake=ticker.wake, mark=zone_data)
            await upkeep.recover()
            for name, loop in (
                ("cron.declared", declared.run),
                ("cron.changes", ticker.changes_loop),
                ("cron", ticker.tick_loop),
                ("cron.rescan", upkeep.rescan_loop),
                ("cron.leases", upkeep.lease_loop),
                ("cron.zones", new_zones.run),
            ):
                await loops.start(supervised(name, loop))
            try:
                yield Cron(
                    jobs=jobs,
                    ticker=ticker,
                    running=running,
                    declared=declared,
                    upkeep=upkeep,
                    new_zones=new_zones,
                    settings=in_force,
                )
            finally:
                ticker.stop()
                await ticker.settled()
                runs.cancel_scope.deadline = drain_until()
        running.close()
        loops.cancel_scope.cancel()
