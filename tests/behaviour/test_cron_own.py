"""Jobs that a program declares itself, with tasks of its own: switched by users, changed by nobody else."""

import pytest
import trio

from econeura_daemon.core.errors import ConflictError, InvalidInputError, SettingsError
from econeura_daemon.core.jobs import ActionBody, ActionKind
from econeura_daemon.core.settings import CronJobSettings
from econeura_daemon.core.settings_sources import Sources, effective
from econeura_daemon.core.structuring import structure_json
from econeura_daemon.cron.commands import CreateJob
from econeura_daemon.cron.errors import TaskFailedError
from tests.support.clocks import TrioClock
from tests.support.cron_rig import open_rig
from tests.support.inline_store import open_inline_store

OWN = CronJobSettings(
    id="sweep",
    name="Sweep the yard",
    schedule="*/5 * * * *",
    action=ActionBody(kind=ActionKind.MAINTENANCE, task="sweep_yard"),
    retries=0,
)
HOURLY = CronJobSettings(id="sweep", name="Sweep the yard", schedule="@hourly", action=OWN.action, retries=0)


@pytest.fixture
async def clock():
    return TrioClock()


@pytest.fixture
async def store(clock):
    async with open_inline_store() as opened:
        yield opened


async def sweep(run):
    await trio.lowlevel.checkpoint()
    if run.scheduled_for % 600_000:
        raise TaskFailedError("it rains")
    return "swept"


async def test_a_task_of_ones_own_is_run_and_what_it_could_not_do_is_the_runs_error(
    store, clock, autojump_clock
):
    async with open_rig(store, clock, own=[OWN], tasks={"sweep_yard": sweep}) as rig:
        await trio.sleep(1210)
        job = await rig.job("sweep")
        assert (job.run_count, job.error_count) == (4, 2)
        told = [(run.output, run.error) for run in await rig.runs("sweep")]
        assert told == [(None, "it rains"), ("swept", None)] * 2


async def test_runs_are_told_as_the_program_says(store, clock, autojump_clock):
    def tell(run, job_name):
        return [("yard.swept", {"job": job_name, "how": run.status.value}, "yard")]

    async with open_rig(store, clock, own=[OWN], tasks={"sweep_yard": sweep}, tell=tell) as rig:
        await trio.sleep(310)
        assert await rig.event_types() == ["yard.swept"]


async def test_a_switch_outlives_a_restart_and_a_new_schedule(store, clock, autojump_clock):
    async with open_rig(store, clock, own=[OWN], tasks={"sweep_yard": sweep}) as rig:
        await rig.cron.jobs.disable("sweep")
        await trio.sleep(1200)
    async with open_rig(store, clock, own=[HOURLY], tasks={"sweep_yard": sweep}, run_id="run_2") as rig:
        job = await rig.job("sweep")
        assert (job.body.enabled, job.body.schedule, job.run_count) == (False, "@hourly", 0)
        assert job.disabled_reason == "disabled by a user"
        await trio.sleep(3600)
        await rig.cron.jobs.enable("sweep")
        await trio.sleep(3600)
        assert (await rig.job("sweep")).run_count == 1, "what fell due while it was off stays so"
    async with open_rig(store, clock, own=[HOURLY], tasks={"sweep_yard": sweep}, run_id="run_3") as rig:
        assert (await rig.job("sweep")).body.enabled


async def test_nothing_but_the_switch_is_the_users(store, clock):
    async with open_rig(store, clock, own=[OWN], tasks={"sweep_yard": sweep}) as rig:
        with pytest.raises(ConflictError):
            await rig.cron.jobs.patch("sweep", {"schedule": "@daily"})
        with pytest.raises(ConflictError):
            await rig.cron.jobs.delete("sweep")
    async with open_rig(store, clock, run_id="run_2") as rig:
        assert await rig.cron.jobs.page(None, 10) == [], "a program that has it no more takes it away"


def test_users_can_name_the_contracts_tasks_alone():
    body = {"name": "x", "schedule": "@daily", "action": {"kind": "maintenance", "task": "sweep_yard"}}
    with pytest.raises(InvalidInputError) as caught:
        structure_json(body, CreateJob)
    (flaw,) = caught.value.flaws
    assert flaw.path == "$.action.task"
    assert "'cleanup', 'backup' or 'analytics_rollup', got the string 'sweep_yard'" in flaw.message
    text = '[[cron.jobs]]\nname="x"\nschedule="@daily"\naction={kind="maintenance", task="sweep_yard"}\n'
    with pytest.raises(SettingsError) as caught:
        effective(Sources(environ={"HOME": "/h"}, file="e.toml", file_text=text))
    assert "cron.jobs[0].action.task: expected 'cleanup'" in str(caught.value)
