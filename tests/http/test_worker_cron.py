"""The workers' contract for cron jobs, over HTTP: shapes, switches that last, problems."""

import pytest

from econeura_daemon.core.settings_worker_jobs import SIX_JOBS
from econeura_daemon.cron import Reports
from econeura_daemon.cron.declared import Declared
from econeura_daemon.worker.routes import GROUPS
from econeura_daemon.worker.tasks import own_jobs
from tests.support.api_world import open_stored_world

SIX = own_jobs(SIX_JOBS, "UTC")
IDS = sorted(job.id for job in SIX)


@pytest.fixture
async def world(tmp_path):
    async with open_stored_world(tmp_path, groups=GROUPS, own_jobs=IDS) as world:
        await declare(world)
        yield world


async def declare(world):
    """Declare the jobs as each start does."""
    services = world.services
    await Declared(
        store=services.store,
        reports=Reports(services.log, services.rng),
        claimant=world.claimant,
        clock=services.clock,
        jobs=(),
        own=SIX,
    ).declare()


async def data(world, path):
    answer = await world.client.get(path)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["success"], list(body)) == (True, ["success", "data", "timestamp"])
    return body["data"]


async def test_jobs_are_answered_in_the_envelope_of_workers(world):
    listed = await data(world, "/cron/jobs")
    assert list(listed) == ["jobs"]
    assert [job["id"] for job in listed["jobs"]] == IDS
    one = await data(world, "/cron/jobs/daily_reports")
    assert one == {"job": next(job for job in listed["jobs"] if job["id"] == "daily_reports")}
    assert (one["job"]["nextRun"], one["job"]["declared"]) == ("2026-11-24T06:00:00.000Z", True)
    assert one["job"]["action"] == {"kind": "maintenance", "task": "daily_reports"}
    stats = await data(world, "/cron/stats")
    assert (stats["totalJobs"], stats["enabledJobs"], stats["runCount"]) == (6, 6, 0)


async def test_a_job_is_switched_off_and_on_as_often_as_asked_and_stays_so_over_a_start(world):
    for _ in range(2):
        job = (await world.post("/cron/jobs/graph_sync/disable", {}, idempotency_key="k")).json()["data"][
            "job"
        ]
        assert (job["enabled"], job["nextRun"]) == (False, None)
    await declare(world)
    assert not (await data(world, "/cron/jobs/graph_sync"))["job"]["enabled"]
    assert (await data(world, "/cron/stats"))["enabledJobs"] == 5
    job = (await world.post("/cron/jobs/graph_sync/enable", {})).json()["data"]["job"]
    assert (job["enabled"], job["nextRun"]) == (True, "2026-11-24T02:15:00.000Z")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/cron/jobs/nope"), ("POST", "/cron/jobs/nope/enable"), ("POST", "/cron/jobs/nope/disable")],
)
async def test_a_job_that_is_not_there_is_a_problem(world, method, path):
    answer = await world.client.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.json()["success"], answer.json()["detail"]) == (False, "There is no job 'nope'")


async def test_nothing_else_can_be_done_to_a_job(world):
    for method, path in (
        ("PATCH", "/cron/jobs/cleanup"),
        ("DELETE", "/cron/jobs/cleanup"),
        ("POST", "/cron/jobs"),
    ):
        assert (await world.client.request(method, path)).status_code == 405
    assert (await world.client.get("/v1/cron/jobs")).status_code == 404
