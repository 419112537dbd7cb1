"""Cron without HTTP: jobs and the ticker over a store, calling what the test says."""

from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from econeura_daemon.core.settings import CronSettings
from econeura_daemon.core.structuring import structure_json
from econeura_daemon.cron.commands import CreateJob
from econeura_daemon.cron.model import Outcome, RunStatus
from econeura_daemon.cron.opening import Cron, open_cron
from econeura_daemon.cron.reports import Reports, told_by_the_daemon
from econeura_daemon.events import EventLog
from econeura_daemon.storage.model import Claimant

DEFAULTS = CronSettings()
REQUEST = {"kind": "request", "service": "workers", "method": "POST", "path": "/tick"}
EVENT = {"kind": "event", "type": "clock.ticked", "data": {"n": 1}}
GOOD = Outcome(status=RunStatus.SUCCEEDED, output="done")


class NoObserver:
    def looked(self, _look):
        pass


async def same_data():
    """The machine's time zone data never changes."""
    await trio.lowlevel.checkpoint()
    return "same"


async def answer_well(_action, _key, _timeout):
    return GOOD


@attrs.frozen(kw_only=True)
class Rig:
    """What stands while cron is open."""

    store: object
    clock: object
    log: EventLog
    cron: Cron

    async def add(self, schedule, action=REQUEST, **more):
        """Create a job."""
        body = {"name": "a job", "schedule": schedule, "action": action, **more}
        job = await self.cron.jobs.create(structure_json(body, CreateJob))
        return job.id

    async def job(self, job_id):
        return await self.cron.jobs.get(job_id)

    async def runs(self, job_id, status=None):
        """Return all runs of the job, the first tick first."""
        found = await self.cron.jobs.runs(job_id, status, None, 100_000)
        return found[::-1]

    async def statuses(self, job_id):
        return [run.status.value for run in await self.runs(job_id)]

    async def event_types(self):
        return [event.type for event in (await self.log.page(limit=100_000))[::-1]]


@asynccontextmanager
async def open_rig(
    store,
    clock,
    call=answer_well,
    *,
    settings=DEFAULTS,
    run_id="run_1",
    daemon_id="dmn_1",
    tasks=(),
    own=(),
    tell=told_by_the_daemon,
    zone_data=same_data,
    drain_until=lambda: float("inf"),
):
    """Tick for the length of the block."""
    rng = Random(7)
    lease = None if store.statistics().backend == "sqlite" else settings.lease_ms
    log = EventLog(store)
    async with open_cron(
        store=store,
        reports=Reports(log, rng, tell=tell),
        claimant=Claimant(daemon_id, run_id, lease),
        settings=settings,
        call=call,
        tasks=dict(tasks),
        own=own,
        observer=NoObserver(),
        clock=clock,
        rng=rng,
        zone_data=zone_data,
        drain_until=drain_until,
    ) as cron:
        yield Rig(store=store, clock=clock, log=log, cron=cron)
