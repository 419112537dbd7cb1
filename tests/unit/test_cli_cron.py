"""The commands about cron against a server of the test's own: what they ask, and what they make of the answers."""

import json

import pytest

from econeura_daemon.cli.root import run
from tests.support.answering import ok, serving

RUN = {
    "id": "run_1",
    "jobId": "nightly",
    "trigger": "scheduled",
    "scheduledFor": "2026-11-24T02:00:00.000Z",
    "startedAt": None,
    "finishedAt": None,
    "status": "missed",
    "attempt": 0,
    "output": None,
    "error": "nobody was there",
}


def job(**more):
    return {
        "id": "nightly",
        "name": "Nightly",
        "schedule": "30 3 * * *",
        "timeZone": "UTC",
        "enabled": True,
        "action": {"kind": "request", "method": "POST", "service": "workers", "path": "/x"},
        "disabledReason": None,
        "nextRun": "2026-11-25T03:30:00.000Z",
        "lastStatus": "failed",
        "runCount": 3,
        "errorCount": 1,
        **more,
    }


def test_a_job_is_added_as_it_was_said():
    with serving((201, ok(job())[1])) as (server, url):
        arguments = [
            *("cron", "add", "Nightly", "30 3 * * *", "--request", "POST workers /x", "--data", '{"a": 1}'),
            *("--id", "nightly", "--zone", "Europe/Madrid", "--overlap", "queue", "--misfire", "all"),
            *("--misfire-window", "1h", "--jitter", "10s", "--timeout", "30s", "--retries", "2"),
            *("--pause-after", "5", "--disabled"),
        ]
        assert run([*arguments, "--url", url]) == 0
    ((method, path, _, body),) = server.asked
    assert (method, path) == ("POST", "/v1/cron/jobs")
    assert body == {
        "name": "Nightly",
        "schedule": "30 3 * * *",
        "action": {"kind": "request", "method": "POST", "service": "workers", "path": "/x", "body": {"a": 1}},
        "id": "nightly",
        "timeZone": "Europe/Madrid",
        "overlap": "queue",
        "misfire": "all",
        "misfireWindowMs": 3_600_000,
        "jitterMs": 10_000,
        "timeoutMs": 30_000,
        "retries": 2,
        "pauseAfterFailures": 5,
        "enabled": False,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--event", "a", "--task", "cleanup"],
        ["--request", "POST /x"],
        ["--task", "cleanup", "--data", "{}"],
    ],
)
def test_a_job_does_one_thing(wrong, capsys):
    assert run(["cron", "add", "x", "@daily", *wrong, "--url", "http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err


def test_jobs_and_runs_are_listed_for_people(capsys):
    page = {"items": [job()], "nextCursor": None}
    with serving((200, ok(page)[1]), (200, ok({"items": [RUN], "nextCursor": None})[1])) as (server, url):
        assert run(["cron", "list", "--url", url]) == 0
        assert run(["cron", "runs", "nightly", "--status", "missed", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "POST workers/x" in shown
    assert "nobody was there" in shown
    assert server.asked[1][1] == "/v1/cron/jobs/nightly/runs?status=missed&limit=50"


@pytest.mark.parametrize("verb", ["enable", "disable", "run"])
def test_a_job_is_enabled_disabled_and_run(verb, capsys):
    with serving((202, ok(RUN if verb == "run" else job())[1])) as (server, url):
        assert run(["cron", verb, "nightly", "--url", url, "-o", "json"]) == 0
    assert server.asked[0][:2] == ("POST", f"/v1/cron/jobs/nightly/{verb}")
    assert json.loads(capsys.readouterr().out)


def test_a_job_is_shown_and_deleted(capsys):
    with serving((200, ok(job())[1]), (200, ok({"id": "nightly", "deleted": True})[1])) as (_, url):
        assert run(["cron", "show", "nightly", "--url", url]) == 0
        assert run(["cron", "delete", "nightly", "--url", url]) == 0
    assert "Deleted nightly." in capsys.readouterr().out
