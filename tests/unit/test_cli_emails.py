"""The commands about e-mails against a server of the test's own: what they ask, and what they make of the answers."""

import json

import pytest

from econeura_daemon.cli import emails
from econeura_daemon.cli.root import run
from tests.support.answering import ok, refusal, serving

RESULT = {"processed": True, "action": "archive", "metadata": {"category": "billing"}}
DONE = {"messageId": "<a@b>", "result": RESULT, "serviceId": "w-1", "responseTime": 12}


def job(done, status="running", failed=0, **more):
    return {
        "id": "blk_1",
        "status": status,
        "total": 4,
        "done": done,
        "successful": done - failed,
        "failed": failed,
        "organizationId": "acme",
        "priority": "normal",
        "createdAt": "2026-11-24T02:00:00.000Z",
        "startedAt": None,
        "finishedAt": None if status == "running" else "2026-11-24T02:00:01.000Z",
        "results": {"items": [], "nextCursor": None},
        **more,
    }


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(emails, "LOOK_EVERY", 0.001)


def test_one_is_processed_as_it_was_said(capsys):
    with serving(ok(DONE)) as (server, url):
        arguments = [
            "emails",
            "process",
            "<a@b>",
            "--organization",
            "acme",
            "--priority",
            "urgent",
            "--key",
            "k",
        ]
        assert run([*arguments, "--url", url]) == 0
    ((method, path, headers, body),) = server.asked
    assert (method, path, headers["Idempotency-Key"]) == ("POST", "/v1/workers/emails/process", "k")
    assert body == {"messageId": "<a@b>", "organizationId": "acme", "priority": "urgent"}
    assert "archive, billing" in capsys.readouterr().out


def test_one_that_failed_is_told_and_fails(capsys):
    with serving(refusal(502, "Workers failed", "w-1 answered 404: no such mail")) as (_, url):
        assert run(["emails", "process", "<a@b>", "--organization", "acme", "--url", url]) == 1
    assert "no such mail" in capsys.readouterr().err


def test_a_bulk_is_a_job_whose_progress_is_told(tmp_path, capsys):
    ids = tmp_path / "ids"
    ids.write_text("# mine\n<1@b>\n\n <2@b> \n<3@b>\n<4@b>\n")
    answers = [(202, ok({"jobId": "blk_1"})[1]), ok(job(0)), ok(job(2)), ok(job(4, "partial", failed=1))]
    with serving(*answers) as (server, url):
        assert run(["emails", "process", "--bulk", str(ids), "--organization", "acme", "--url", url]) == 1
    _, path, headers, body = server.asked[0]
    assert (path, headers["Prefer"]) == ("/v1/workers/emails/process/bulk", "respond-async")
    assert body["messageIds"] == ["<1@b>", "<2@b>", "<3@b>", "<4@b>"]
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "blk_1: 0/4 done, 0 failed",
        "blk_1: 2/4 done, 0 failed",
        "blk_1: 4/4 done, 1 failed",
    ]
    assert "partial" in told.out


def test_a_bulk_that_nobody_waits_for_tells_its_job(tmp_path, capsys):
    ids = tmp_path / "ids"
    ids.write_text("<1@b>\n")
    with serving((202, ok({"jobId": "blk_1"})[1]), ok(job(0))) as (_, url):
        arguments = [
            "emails",
            "process",
            "--bulk",
            str(ids),
            "--organization",
            "acme",
            "--no-wait",
            "-o",
            "json",
        ]
        assert run([*arguments, "--url", url]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "blk_1"


def test_what_is_neither_one_nor_a_bulk_is_a_wrong_usage(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for given in ([], ["<a@b>", "--bulk", str(empty)], ["--bulk", str(empty)]):
        assert (
            run(["emails", "process", *given, "--organization", "acme", "--url", "http://127.0.0.1:1"]) == 2
        )
    assert "holds 0 ids" in capsys.readouterr().err


def test_a_job_is_shown_with_its_results(capsys):
    first = job(4, "succeeded", results={"items": [{**DONE, "success": True}], "nextCursor": "c"})
    second = job(4, "succeeded", results={"items": [{**DONE, "messageId": "<z@b>"}], "nextCursor": None})
    with serving(ok(first), ok(second)) as (server, url):
        assert run(["emails", "job", "blk_1", "--url", url]) == 0
    assert "cursor=c" in server.asked[1][1]
    out = capsys.readouterr().out
    assert "<a@b>" in out
    assert "<z@b>" in out


def test_lists_and_cancelling_ask_for_what_was_said(capsys):
    listed = {"items": [], "nextCursor": None}
    with serving(ok(listed), ok(listed), ok(job(1, "canceled"))) as (server, url):
        arguments = [
            "emails",
            "list",
            "--status",
            "failed",
            "--organization",
            "acme",
            "--message-id",
            "<a@b>",
        ]
        assert run([*arguments, "--url", url]) == 0
        assert run(["emails", "jobs", "--url", url]) == 0
        assert run(["emails", "cancel", "blk_1", "--url", url]) == 0
    first, second, third = server.asked
    assert "organizationId=acme" in first[1]
    assert "status=failed" in first[1]
    assert second[1].startswith("/v1/workers/jobs?")
    assert third[:2] == ("DELETE", "/v1/workers/jobs/blk_1")
    assert "No e-mails." in capsys.readouterr().err
