"""`open_workers`: what calls workers and remembers what came of it, for the length of a block."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from econeura_daemon.client import Mesh
from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import WorkersSettings
from econeura_daemon.events import EventLog
from econeura_daemon.storage import Store
from econeura_daemon.storage.model import Claimant
from econeura_daemon.workers.bulks import Bulks
from econeura_daemon.workers.calling import Calling
from econeura_daemon.workers.crons import CronManagement
from econeura_daemon.workers.emails import Emails
from econeura_daemon.workers.jobs import BulkJobs
from econeura_daemon.workers.model import BulkJob
from econeura_daemon.workers.recording import Counted, Recorder
from econeura_daemon.workers.runner import PROGRESS, Runner
from econeura_daemon.workers.waiting import Waiting

RunLoop = Callable[[str, Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]
"""Wraps a loop in supervision: (name, loop) to something that a nursery can start."""


def unsupervised(_name: str, loop: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Run a loop as it is."""
    return loop


@attrs.frozen(kw_only=True)
class Workers:
    """What stands while the integration is open."""

    calling: Calling
    waiting: Waiting
    recorder: Recorder
    emails: Emails
    crons: CronManagement
    bulks: Bulks
    jobs: BulkJobs
    runner: Runner
    _settings: "list[WorkersSettings]" = attrs.field(repr=False)

    def use(self, settings: WorkersSettings) -> None:
        """Go by other settings from now on."""
        self._settings[0] = settings
        self.calling.service_type = settings.service_type
        self.waiting.max_waiting = settings.max_waiting
        self.waiting.max_wait = settings.max_wait_ms / 1000
        self.bulks.timeout = settings.bulk_timeout_ms / 1000


@asynccontextmanager
async def open_workers(
    *,
    store: Store,
    events: EventLog,
    mesh: Mesh,
    settings: WorkersSettings,
    clock: Clock,
    rng: Random,
    claimant: Claimant,
    counted: Counted = lambda _status, _number: None,
    supervised: RunLoop = unsupervised,
    drain_until: Callable[[], float] = lambda: float("inf"),
) -> AsyncGenerator[Workers]:
    """Have workers called for the length of the block.

    Leaving waits for chunks of bulk jobs that are under way until ``drain_until()`` (on Trio's clock); what is left
    then goes on with the next start, or at another daemon of the same store.
    """
    calling = Calling(mesh, settings.service_type)
    waiting = Waiting(calling.room, max_waiting=settings.max_waiting, max_wait=settings.max_wait_ms / 1000)
    recorder = Recorder(store, events, clock, rng, counted)
    bulks = Bulks(
        calling=calling, waiting=waiting, recorder=recorder, timeout=settings.bulk_timeout_ms / 1000
    )
    in_force = [settings]

    def progress(job: BulkJob) -> None:
        recorder.pass_on(PROGRESS, job.to_json())

    async with trio.open_nursery() as loops:
        async with trio.open_nursery() as running:
            runner = Runner(
                store=store,
                bulks=bulks,
                recorder=recorder,
                claimant=claimant,
                rng=rng,
                patience=lambda: in_force[0].job_patience_ms / 1000,
                progress=progress,
                nursery=running,
            )
            await runner.recover()
            for name, loop in (
                ("workers", waiting.look),
                ("workers.changes", runner.changes_loop),
                ("workers.jobs", runner.claim_loop),
                ("workers.upkeep", runner.upkeep_loop),
                ("workers.leases", runner.lease_loop),
            ):
                await loops.start(supervised(name, loop))
            try:
                yield Workers(
                    calling=calling,
                    waiting=waiting,
                    recorder=recorder,
                    emails=Emails(store=store, calling=calling, waiting=waiting, recorder=recorder),
                    crons=CronManagement(calling, recorder),
                    bulks=bulks,
                    jobs=BulkJobs(store, recorder),
                    runner=runner,
                    settings=in_force,
                )
            finally:
                runner.stop()
                running.cancel_scope.deadline = drain_until()
        loops.cancel_scope.cancel()
