"""The commands about e-mails against a server of the test's own: what they ask, and what they make of the answers."""

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from econeura_daemon.cli import emails
from econeura_daemon.cli.root import run
from tests.support.answering import ok, refusal, serving

RESULT = {"processed": True, "action": "archive", "metadata": {"category": "billing"}}
DONE = {"messageId": "<a@b>", "result": RESULT, "serviceId": "w-1", "responseTime": 12}
BEGUN = (202, ok({"jobId": "blk_1"})[1])


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
    ended = job(4, "partial", failed=1)
    failed = {**DONE, "messageId": "<3@b>", "success": False, "error": "no such mail"}
    results = {"items": [{**DONE, "success": True}, failed], "nextCursor": None}
    with serving(BEGUN, ok(job(0)), ok(job(2)), ok(ended), ok({**ended, "results": results})) as (
        server,
        url,
    ):
        assert run(["emails", "process", "--bulk", str(ids), "--organization", "acme", "--url", url]) == 1
    _, path, headers, body = server.asked[0]
    assert (path, headers["Prefer"]) == ("/v1/workers/emails/process/bulk", "respond-async")
    assert body["messageIds"] == ["<1@b>", "<2@b>", "<3@b>", "<4@b>"]
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "Begun as blk_1; it goes on without you.",
        "blk_1: 0/4, 0 failed",
        "blk_1: 2/4, 0 failed",
        "blk_1: 4/4, 1 failed",
    ]
    assert "partial" in told.out
    assert "no such mail" in told.out
    assert "archive" not in told.out, "people are shown what failed"


@pytest.fixture
def ids(tmp_path):
    path = tmp_path / "ids"
    path.write_bytes("\ufeff<1@b>\r\n<2@b>\n<3@b>\n<4@b>".encode())
    return str(path)


def bulk(ids, url):
    return run(["emails", "process", "--bulk", ids, "--organization", "acme", "--url", url])


def test_a_daemon_that_goes_away_meanwhile_is_waited_for(ids, capsys):
    with serving(BEGUN, b"", ok(job(1)), b"", ok(job(4, "succeeded"))) as (server, url):
        assert bulk(ids, url) == 0
    assert server.asked[0][3]["messageIds"] == ["<1@b>", "<2@b>", "<3@b>", "<4@b>"]
    told = capsys.readouterr().err
    assert told.count("coming back") == 2
    assert told.endswith("blk_1: 4/4, 0 failed\n")


def test_ctrl_c_leaves_the_job_to_itself_and_says_how_to_come_back(ids, capsys):
    def interrupted(_request):
        os.kill(os.getpid(), signal.SIGINT)
        return ok(job(1))

    with serving(BEGUN, interrupted, *[ok(job(1))] * 9) as (server, url):
        assert bulk(ids, url) == 130
    told = capsys.readouterr().err
    assert "the job blk_1 goes on" in told
    assert "emails job blk_1" in told
    assert "emails cancel blk_1" in told
    assert {one[0] for one in server.asked[1:]} == {"GET"}, "nothing was canceled"


def test_on_a_terminal_there_is_a_bar(ids):
    ours, theirs = pty.openpty()
    with serving(BEGUN, ok(job(1)), ok(job(2)), ok(job(4, "succeeded"))) as (_, url):
        arguments = [
            "emails",
            "process",
            "--bulk",
            ids,
            "--organization",
            "acme",
            "--url",
            url,
            "-o",
            "jsonl",
        ]
        program = [sys.executable, "-m", "econeura_daemon", *arguments]
        root = Path(__file__).parents[2]
        done = subprocess.run(
            program, stdout=subprocess.PIPE, stderr=theirs, cwd=root, timeout=30, check=False
        )
    os.close(theirs)
    drawn = b""
    with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
        while piece := terminal.read(65536):
            drawn += piece
    assert done.returncode == 0
    assert json.loads(done.stdout)["id"] == "blk_1", "what is for programs is not mixed with the bar"
    assert "\r[####################....................] 2/4, 0 failed \r" in drawn.decode()
    assert drawn.endswith(b"\r\n")


def test_a_file_that_is_no_text_is_a_wrong_usage(tmp_path, capsys):
    path = tmp_path / "ids"
    path.write_bytes(b"<1@b>\n\xff\n")
    assert bulk(str(path), "http://127.0.0.1:1") == 2
    assert "is not UTF-8" in capsys.readouterr().err


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
    with serving(ok(first), ok(first), ok(second)) as (server, url):
        assert run(["emails", "job", "blk_1", "--url", url]) == 0
    assert "cursor=c" in server.asked[2][1]
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
