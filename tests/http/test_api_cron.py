"""Cron's routes: what a job may say, what is refused and where, and who may change what."""

import pytest
import trio

from econeura_daemon.core.settings import CronJobSettings
from econeura_daemon.core.structuring import structure_settings
from econeura_daemon.cron.declared import Declared
from econeura_daemon.cron.reports import Reports
from tests.support.api_world import open_stored_world

JOBS = "/v1/cron/jobs"
REQUEST = {"kind": "request", "service": "workers", "method": "POST", "path": "/tick", "body": {"a": 1}}
EVENT = {"kind": "event", "type": "clock.ticked", "data": {"n": 1}}
JOB = {"name": "Nightly", "schedule": "0 3 * * *", "timeZone": "Europe/Madrid", "action": REQUEST}


@pytest.fixture
async def world(tmp_path):
    async with open_stored_world(tmp_path) as world:
        yield world


def flaws(answer):
    assert answer.status_code == 400, answer.text
    return {flaw["path"]: flaw["message"] for flaw in answer.json()["details"]}


async def test_a_job_comes_back_with_its_defaults_and_its_next_five_runs(world):
    answer = await world.post(JOBS, JOB)
    assert answer.status_code == 201
    job = answer.json()["data"]
    assert job == job | {
        "name": "Nightly",
        "schedule": "0 3 * * *",
        "timeZone": "Europe/Madrid",
        "enabled": True,
        "action": REQUEST,
        "overlap": "skip",
        "misfire": "latest",
        "misfireWindowMs": 3_600_000,
        "jitterMs": 0,
        "timeoutMs": 300_000,
        "dstGap": "run",
        "dstFold": "once",
        "runCount": 0,
        "errorCount": 0,
        "missedCount": 0,
        "lastRun": None,
        "nextRun": "2026-11-25T02:00:00.000Z",
        "nextRuns": [f"2026-11-{day}T02:00:00.000Z" for day in range(25, 30)],
        "declared": False,
    }
    assert job["id"].startswith("job_")
    assert (await world.client.get(f"{JOBS}/{job['id']}")).json()["data"] == job


async def test_what_is_wrong_with_a_job_is_told_field_by_field_and_nothing_is_stored(world):
    bad = {
        "name": "",
        "schedule": "61 * * * *",
        "timeZone": "Europe/Madird",
        "action": {"kind": "request", "service": "workers", "path": "tick", "task": "cleanup"},
        "overlap": "never",
        "retries": -1,
        "colour": "red",
    }
    found = flaws(await world.post(JOBS, bad))
    assert set(found) == {
        "$.name", "$.schedule", "$.timeZone", "$.action.path", "$.overlap", "$.retries", "$.colour",
    }  # fmt: skip
    assert "minute" in found["$.schedule"]
    assert "Europe/Madrid" in found["$.timeZone"]
    assert (await world.client.get(JOBS)).json()["data"]["items"] == []


@pytest.mark.parametrize(
    ("action", "path"),
    [
        ({"kind": "request", "service": "workers", "path": "/"}, "$.action.method"),
        ({"kind": "event"}, "$.action.type"),
        ({"kind": "event", "type": "a b"}, "$.action.type"),
        ({"kind": "event", "type": "a", "task": "backup"}, "$.action.task"),
        ({"kind": "maintenance"}, "$.action.task"),
        ({"kind": "maintenance", "task": "party"}, "$.action.task"),
        ({**REQUEST, "path": "/a/../../b"}, "$.action.path"),
        ({**REQUEST, "path": "/a/%2E"}, "$.action.path"),
        ({**REQUEST, "path": "/a#b"}, "$.action.path"),
        ({**REQUEST, "method": "CONNECT"}, "$.action.method"),
        ({**REQUEST, "headers": {"Host": "x"}}, "$.action.headers['Host']"),
        ({**REQUEST, "headers": {"X": "a\nb"}}, "$.action.headers['X']"),
    ],
)
async def test_an_action_has_the_keys_of_its_kind(world, action, path):
    assert list(flaws(await world.post(JOBS, {**JOB, "action": action}))) == [path]


async def test_paths_and_methods_go_out_as_they_are_written(world):
    for action in ({"path": "/.well-known/x..y/...?a=/../b"}, {"method": "PURGE"}, {"method": "GET"}):
        answer = await world.post(JOBS, {**JOB, "action": {**REQUEST, **action}})
        assert answer.json()["data"]["action"] == {**REQUEST, **action}


async def test_a_schedule_that_never_comes_is_refused(world):
    assert "never run" in flaws(await world.post(JOBS, {**JOB, "schedule": "0 0 30 2 *"}))["$.schedule"]


async def test_a_patch_changes_what_is_given_and_null_takes_a_default_back(world):
    job = (await world.post(JOBS, {**JOB, "id": "nightly", "retries": 5})).json()["data"]
    answer = await world.client.patch(f"{JOBS}/nightly", json={"schedule": "@hourly", "retries": None})
    changed = answer.json()["data"]
    assert (changed["schedule"], changed["retries"], changed["name"]) == ("@hourly", 1, job["name"])
    assert changed["nextRun"] == "2026-11-24T03:00:00.000Z"
    bad = await world.client.patch(f"{JOBS}/nightly", json={"schedule": "* * *"})
    assert list(flaws(bad)) == ["$.schedule"]


async def test_a_job_is_disabled_enabled_and_deleted(world):
    await world.post(JOBS, {**JOB, "id": "nightly"})
    disabled = (await world.client.post(f"{JOBS}/nightly/disable")).json()["data"]
    assert (disabled["enabled"], disabled["nextRun"], disabled["nextRuns"]) == (False, None, [])
    enabled = (await world.client.post(f"{JOBS}/nightly/enable")).json()["data"]
    assert (enabled["enabled"], enabled["disabledReason"]) == (True, None)
    assert (await world.client.delete(f"{JOBS}/nightly")).json()["data"] == {"id": "nightly", "deleted": True}
    for answer in (
        await world.client.get(f"{JOBS}/nightly"),
        await world.client.delete(f"{JOBS}/nightly"),
        await world.client.post(f"{JOBS}/nightly/run"),
        await world.client.get(f"{JOBS}/nightly/runs"),
    ):
        assert answer.status_code == 404


async def test_a_run_is_answered_with_202_and_an_event_action_has_happened_by_then(world):
    await world.post(JOBS, {**JOB, "id": "tick", "action": EVENT})
    answer = await world.post(f"{JOBS}/tick/run", {}, idempotency_key="once")
    assert answer.status_code == 202
    run = answer.json()["data"]
    again = await world.post(f"{JOBS}/tick/run", {}, idempotency_key="once")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["data"] == run
    assert (run["status"], run["trigger"], run["attempt"]) == ("succeeded", "manual", 1)
    events = (await world.client.get("/v1/events")).json()["data"]["items"]
    assert [event["type"] for event in events] == ["cron.run_succeeded", "clock.ticked"]
    assert events[0]["data"]["runId"] == run["id"]
    runs = (await world.client.get(f"{JOBS}/tick/runs", params={"status": "succeeded"})).json()["data"]
    assert runs == {"items": [run], "nextCursor": None}
    assert (await world.client.get(f"{JOBS}/tick/runs?status=failed")).json()["data"]["items"] == []
    assert "?status" in flaws(await world.client.get(f"{JOBS}/tick/runs?status=done"))


async def test_the_same_key_creates_one_job_and_a_taken_id_is_a_conflict(world):
    first = await world.post(JOBS, JOB, idempotency_key="k")
    again = await world.post(JOBS, JOB, idempotency_key="k")
    assert again.json()["data"] == first.json()["data"]
    assert (await world.post(JOBS, {**JOB, "name": "x"}, idempotency_key="k")).status_code == 422
    await world.post(JOBS, {**JOB, "id": "nightly"})
    taken = await world.post(JOBS, {**JOB, "id": "nightly"})
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/conflict")


async def test_jobs_and_runs_come_in_pages(world):
    for n in range(5):
        await world.post(JOBS, {**JOB, "id": f"job-{n}", "action": EVENT})
    for _ in range(3):
        await world.client.post(f"{JOBS}/job-0/run")
        await trio.sleep(0.002)
    for path, count in ((JOBS, 5), (f"{JOBS}/job-0/runs", 3)):
        found, cursor = [], None
        while True:
            query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await world.client.get(path, params=query)).json()["data"]
            found += [item["id"] for item in page["items"]]
            cursor = page["nextCursor"]
            if cursor is None:
                break
        assert len(set(found)) == count
    stats = (await world.client.get("/v1/cron/stats")).json()["data"]
    assert stats == stats | {"totalJobs": 5, "enabledJobs": 5, "runCount": 3, "queuedRuns": 0}


async def test_a_declared_job_is_shown_so_and_changed_only_in_the_file(world):
    services = world.services
    declared = Declared(
        store=services.store,
        reports=Reports(services.log, services.rng),
        claimant=world.claimant,
        clock=services.clock,
        jobs=[
            structure_settings(
                {"name": "Nightly run", "schedule": "@daily", "action": EVENT}, CronJobSettings
            )
        ],
    )
    await declared.declare()
    job = (await world.client.get(f"{JOBS}/nightly-run")).json()["data"]
    assert (job["declared"], job["schedule"]) == (True, "@daily")
    for answer in (
        await world.client.patch(f"{JOBS}/nightly-run", json={"retries": 2}),
        await world.client.delete(f"{JOBS}/nightly-run"),
        await world.client.post(f"{JOBS}/nightly-run/disable"),
        await world.client.post(f"{JOBS}/nightly-run/enable"),
    ):
        assert answer.status_code == 409
        assert "configuration" in answer.json()["detail"]
    assert (await world.client.post(f"{JOBS}/nightly-run/run")).status_code == 202
    declared.use([])
    await declared.declare()
    assert (await world.client.get(f"{JOBS}/nightly-run")).status_code == 404
