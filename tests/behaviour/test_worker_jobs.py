"""The worker's six jobs in cron: when they run, how they are told of, what a kill and a night off leave."""

from functools import partial

import attrs
import pytest
import trio

from econeura_daemon.core.errors import SettingsError, StoreUnavailableError
from econeura_daemon.core.jsons import loads
from econeura_daemon.core.settings_worker_jobs import SIX_JOBS, WorkerJobsSettings
from econeura_daemon.cron import TaskFailedError
from econeura_daemon.worker.tasks.declared import own_jobs
from econeura_daemon.worker.tasks.told import told_by_a_worker
from tests.support.clocks import TrioClock
from tests.support.cron_rig import open_rig
from tests.support.inline_store import open_inline_store

HOUR = 3600
SIX = own_jobs(SIX_JOBS, "Europe/Madrid")
DAILY = [job for job in SIX if job.id == "daily_reports"]
tell = partial(told_by_a_worker, "w-1")


@pytest.fixture
async def clock():
    return TrioClock()


@pytest.fixture
async def store(clock):
    async with open_inline_store() as opened:
        yield opened


async def fine(_run):
    await trio.lowlevel.checkpoint()
    return "fine"


async def events(rig):
    """Return type, source and data, the oldest first."""
    found = await rig.log.page(limit=10_000)
    return [(one.type, loads(one.body)) for one in found[::-1]]


def test_the_jobs_are_those_of_the_original():
    assert {job.id: job.schedule for job in own_jobs(SIX_JOBS, "UTC")} == {
        "email_processing": "*/5 * * * *",
        "graph_sync": "*/15 * * * *",
        "cleanup": "0 * * * *",
        "health_check": "* * * * *",
        "daily_reports": "0 6 * * *",
        "weekly_export": "0 2 * * 0",
    }


def test_every_schedule_that_cannot_be_read_is_told_at_once():
    jobs = WorkerJobsSettings(graph_sync="61 * * * *", daily_reports="0 0 30 2 *")
    with pytest.raises(SettingsError) as caught:
        own_jobs(jobs, "UTC")
    assert [flaw.path for flaw in caught.value.flaws] == [
        "worker.jobs.graph_sync",
        "worker.jobs.daily_reports",
    ]
    with pytest.raises(SettingsError) as caught:
        own_jobs(SIX_JOBS, "Europe/Madird")
    assert [flaw.path for flaw in caught.value.flaws] == ["worker.time_zone"]


async def test_they_run_when_they_are_due_in_the_zone_of_the_settings(store, clock, autojump_clock):
    tasks = {job.id: fine for job in SIX}
    async with open_rig(store, clock, own=SIX, tasks=tasks, tell=tell) as rig:
        await trio.sleep(3 * HOUR + 1)  # 03:00 to 06:00 in Madrid
        assert {job.id: (await rig.job(job.id)).run_count for job in SIX} == {
            "email_processing": 36,
            "graph_sync": 12,
            "cleanup": 3,
            "health_check": 180,
            "daily_reports": 1,
            "weekly_export": 0,
        }
        assert (await rig.job("weekly_export")).to_json(())["nextRun"] == "2026-11-29T01:00:00.000Z"
        told = await events(rig)
        assert len(told) == 232
        assert {event_type for event_type, _ in told} == {"workers.cron_executed"}


async def test_a_run_that_failed_is_an_execution_and_an_error(store, clock, autojump_clock):
    async def ill(_run):
        await trio.sleep(2)
        raise TaskFailedError("disk: full; daemon: away")

    async with open_rig(store, clock, own=DAILY, tasks={"daily_reports": ill}, tell=tell) as rig:
        await trio.sleep(4 * HOUR)
        (run,) = await rig.runs("daily_reports")
        (executed_type, executed), (error_type, error) = await events(rig)
        assert (executed_type, error_type) == ("workers.cron_executed", "workers.error_occurred")
        started = executed["data"].pop("startedAt")
        assert executed["data"] == {
            "jobId": "daily_reports",
            "runId": run.id,
            "status": "failed",
            "durationMs": 2000,
            "workerId": "w-1",
        }
        assert started == run.to_json()["startedAt"]
        assert error["data"] == {
            "operation": "cron",
            "jobId": "daily_reports",
            "error": "disk: full; daemon: away",
            "workerId": "w-1",
        }
        assert executed["source"] == error["source"] == "workers"
        assert run.attempt == 3, "a report is tried again before it is given up"


async def test_a_run_that_a_kill_cut_off_is_made_again_as_the_same_run(store, clock, autojump_clock):
    seen = []

    async def hang(run):
        seen.append(run.id)
        await trio.sleep_forever()

    async def work(run):
        await trio.lowlevel.checkpoint()
        seen.append(run.id)
        return "done"

    with trio.CancelScope() as killed:
        async with open_rig(store, clock, own=DAILY, tasks={"daily_reports": hang}, tell=tell):
            await trio.sleep(3 * HOUR + 1)
            store.trouble = StoreUnavailableError("as if killed")
            killed.cancel()
    store.trouble = None
    async with open_rig(
        store, clock, own=DAILY, tasks={"daily_reports": work}, tell=tell, run_id="run_2"
    ) as rig:
        await trio.sleep(1)
        ((event_type, event),) = await events(rig)
        assert (event_type, event["data"]["status"]) == ("workers.cron_executed", "succeeded")
        assert len(seen) == 2
        assert len(set(seen)) == 1


async def test_reports_of_days_off_are_made_up_for_and_looks_at_the_health_are_not(
    store, clock, autojump_clock
):
    days = []

    async def report(run):
        await trio.lowlevel.checkpoint()
        days.append(run.scheduled_for // (24 * HOUR * 1000) - 20_781)
        return "reported"

    tasks = {job.id: fine for job in SIX} | {"daily_reports": report}
    async with open_rig(store, clock, own=SIX, tasks=tasks, tell=tell) as rig:
        await rig.cron.jobs.disable("email_processing")
    await trio.sleep(3 * 24 * HOUR + 30)
    async with open_rig(store, clock, own=SIX, tasks=tasks, tell=tell, run_id="run_2") as rig:
        await trio.sleep(5)
        assert days == [0, 1, 2]
        assert [(await rig.job(job)).run_count for job in ("health_check", "email_processing")] == [0, 0]
        assert not (await rig.job("email_processing")).body.enabled
        assert {data["data"]["status"] for _, data in await events(rig)} == {"succeeded"}


def test_a_schedule_is_changed_in_the_settings_alone():
    changed = own_jobs(attrs.evolve(SIX_JOBS, cleanup="@daily"), "UTC")
    assert {job.schedule for job in changed} - {job.schedule for job in SIX} == {"@daily"}
