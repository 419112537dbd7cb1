"""The commands about the mesh against a server of the test's own."""

import json

from econeura_daemon.cli.root import run
from tests.support.answering import ok, serving

CLOSED = {"state": "closed", "reason": "it never opened", "until": None}
OPEN = {"state": "open", "reason": "5 failures in a row", "until": "2026-11-24T02:01:00.000Z"}


FAULT = {
    "type": "workers", "serviceId": None, "percent": 10, "delayMs": 0, "abortStatus": 503, "drop": False,
    "static": False, "until": "2026-11-24T02:05:00.000Z",
}  # fmt: skip
STATIC = {**FAULT, "delayMs": 200, "abortStatus": None, "static": True, "until": None}


def service(**more):
    one = {
        "id": "w1", "status": "healthy", "weight": 100, "inFlight": 3, "limit": 20, "latencyMs": 1.25,
        "ejectedUntil": None, "ejectionReason": None, "breaker": OPEN,
    }  # fmt: skip
    totals = {"requests": 7, "failures": 1, "retries": 2, "refusals": 0}
    shown = {
        "type": "workers", "policy": {}, "panic": True, "inFlight": 3, "queued": 0, "budget": {},
        "totals": totals, "breaker": CLOSED, "faults": [FAULT, STATIC], "instances": [one],
    }  # fmt: skip
    return {**shown, **more}


def test_services_are_shown_with_their_calls(capsys):
    with serving(ok({"items": [service()]})) as (server, url):
        assert run(["mesh", "show", "--url", url]) == 0
    assert server.asked[0][1] == "/v1/mesh"
    row = capsys.readouterr().out.split("\n")[1]
    assert " ".join(row.split()) == "workers 1 3 0 7 1 2 0 closed panic 10 %: 503; 10 %: 200 ms"


def test_one_service_is_shown_with_its_instances(capsys):
    with serving(ok({"items": [service()]})) as (server, url):
        assert run(["mesh", "show", "workers", "--url", url, "-o", "table"]) == 0
    assert server.asked[0][1] == "/v1/mesh?type=workers"
    shown = capsys.readouterr().out
    assert "open, until 2026-11-24T02:01:00.000Z: 5 failures in a row" in shown
    assert "3/20" in shown
    assert "1.2 ms" in shown


def test_calls_are_listed_with_their_attempts(capsys):
    call = {
        "id": "r", "type": "workers", "method": "PUT", "path": "/x", "startedAt": "2026-11-24T02:00:00.000Z",
        "durationMs": 12.34, "status": 200, "problem": None, "traceId": None,
        "attempts": [
            {"serviceId": "w1", "outcome": "answered 503", "durationMs": 1.0},
            {"serviceId": "w2", "outcome": "answered 200", "durationMs": 2.0},
        ],
    }  # fmt: skip
    with serving(ok({"items": [call], "nextCursor": None})) as (server, url):
        arguments = ["mesh", "calls", "--type", "workers", "--status", "200", "--slow", "10ms", "--url", url]
        assert run([*arguments, "-o", "table"]) == 0
    assert server.asked[0][1] == "/v1/mesh/calls?type=workers&status=200&slowMs=10&limit=50"
    assert "w1: answered 503, then w2: answered 200" in capsys.readouterr().out
    with serving(ok({"items": [call], "nextCursor": None})) as (server, url):
        assert run(["mesh", "calls", "--url", url, "-o", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out) == call


def test_faults_are_injected_listed_and_ended(capsys):
    with serving(ok(FAULT), ok({"items": [FAULT, STATIC]}), ok({"removed": 1, "kept": 1})) as (server, url):
        asked = [
            "mesh",
            "faults",
            "workers",
            "--abort",
            "503",
            "--percent",
            "10",
            "--for",
            "5m",
            "--url",
            url,
        ]
        assert run(asked) == 0
        assert run(["mesh", "faults", "--url", url]) == 0
        assert run(["mesh", "faults", "workers", "--clear", "--url", url, "-o", "table"]) == 0
    put, get, delete = server.asked
    assert put[:2] == ("PUT", "/v1/mesh/faults")
    body = {"type": "workers", "percent": 10, "abortStatus": 503, "drop": False, "expiresInMs": 300_000}
    assert put[3] == body
    assert get[:2] == ("GET", "/v1/mesh/faults")
    assert delete[:2] == ("DELETE", "/v1/mesh/faults?type=workers")
    shown = capsys.readouterr().out
    assert "the configuration is changed" in shown
    assert shown.endswith("Ended 1 faults; 1 stand in the configuration.\n")


def test_a_fault_needs_its_service(capsys):
    assert run(["mesh", "faults", "--drop", "--url", "http://127.0.0.1:1"]) == 2
    assert "say which TYPE" in capsys.readouterr().err
