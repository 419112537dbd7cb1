"""The commands about services against a server of the test's own: what they ask, and what they make of the answers."""

import json

import pytest

from econeura_daemon.cli import follow as follow_module
from econeura_daemon.cli.root import run
from econeura_daemon.cli.watch import changes
from tests.support.answering import ok, refusal, serving


def instance(key="a", status="healthy", **more):
    shown = {
        "id": key,
        "name": key,
        "type": "orders",
        "host": "127.0.0.1",
        "port": 8080,
        "scheme": "http",
        "version": None,
        "status": status,
        "statusReason": f"is {status}",
        "tags": [],
        "metadata": {},
        "weight": 100,
        "ttlMs": 30000,
        "check": None,
        "deregisterAfterMs": 600000,
        "lastHeartbeat": "2026-11-24T02:00:00.000Z",
        "registeredAt": "2026-11-24T02:00:00.000Z",
    }
    return {**shown, **more}


def listed(index, *instances):
    body = json.dumps(ok({"items": list(instances), "nextCursor": None})[1]).encode()
    head = f"HTTP/1.1 200 OK\r\nX-Econeura-Index: {index}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_an_instance_is_registered_as_it_was_said():
    with serving((201, ok(instance())[1])) as (server, url):
        arguments = [
            *("services", "register", "[::1]:8080", "--type", "orders", "--id", "a", "--name", "A"),
            *("--scheme", "https", "--version", "1.2", "--tags", "x,y", "--metadata", '{"zone": 1}'),
            *("--weight", "5", "--ttl", "30s", "--check", "/live", "--interval", "500ms", "--timeout", "1s"),
            *(
                "--deregister-after",
                "5m",
                "--endpoint",
                "GET /v1/orders All of them",
                "--endpoint",
                "POST /v1/x",
            ),
        ]
        assert run([*arguments, "--url", url]) == 0
    ((method, path, _, body),) = server.asked
    assert (method, path) == ("POST", "/v1/services")
    assert body == {
        "type": "orders",
        "host": "::1",
        "port": 8080,
        "id": "a",
        "name": "A",
        "scheme": "https",
        "version": "1.2",
        "tags": ["x", "y"],
        "metadata": {"zone": 1},
        "weight": 5,
        "ttlMs": 30000,
        "check": {"kind": "http", "path": "/live", "intervalMs": 500, "timeoutMs": 1000},
        "deregisterAfterMs": 300000,
        "endpoints": [
            {"method": "GET", "endpoint": "/v1/orders", "description": "All of them"},
            {"method": "POST", "endpoint": "/v1/x"},
        ],
    }


def test_what_was_not_said_is_not_sent():
    with serving((201, ok(instance())[1]), (201, ok(instance())[1])) as (server, url):
        arguments = ["services", "register", "db.internal:5432", "--type", "db", "--url", url]
        assert run(arguments) == 0
        assert run([*arguments, "--check", "tcp"]) == 0
    said = {"type": "db", "host": "db.internal", "port": 5432}
    assert [body for _, _, _, body in server.asked] == [said, {**said, "check": {"kind": "tcp"}}]


def test_replacing_is_said(capsys):
    with serving(ok(instance())) as (_, url):
        assert run(["services", "register", "h:1", "--type", "t", "--url", url]) == 0
    assert capsys.readouterr().err == "It replaces the one that had its id.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["8080", "--type", "t"], "expected HOST:PORT or [IPv6]:PORT, got '8080'"),
        (["::1:8080", "--type", "t"], "expected HOST:PORT or [IPv6]:PORT, got '::1:8080'"),
        (["h:x", "--type", "t"], "got 'h:x'"),
        (["h:1", "--type", "t", "--ttl", "30"], "expected a duration such as 500ms, 30s or 5m, got '30'"),
        (["h:1", "--type", "t", "--endpoint", "/v1"], "expected a method and a path"),
        (["h:1", "--type", "t", "--interval", "5s"], "give --check too"),
        (["h:1"], "Missing option '--type'"),
    ],
)
def test_a_registration_that_cannot_be_is_told_before_anybody_is_asked(arguments, said, capsys):
    assert run(["services", "register", *arguments, "--url", "http://127.0.0.1:9"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["list"], ("GET", "/v1/services")),
        (
            ["list", "--type", "t", "--status", "healthy", "--tag", "a b"],
            ("GET", "/v1/services?type=t&status=healthy&tag=a+b"),
        ),
        (["show", "../x"], ("GET", "/v1/services/..%2Fx")),
        (["drain", "a"], ("PUT", "/v1/services/a/drain")),
        (["drain", "a", "--off"], ("DELETE", "/v1/services/a/drain")),
        (["deregister", "a"], ("DELETE", "/v1/services/a")),
    ],
)
def test_each_command_asks_its_route(arguments, asked):
    answer = ok({**instance(), "items": [], "endpoints": []})
    with serving(answer) as (server, url):
        assert run(["services", *arguments, "--url", url]) == 0
    assert server.asked[0][:2] == asked


def test_an_instance_is_shown_with_what_it_offers(capsys):
    endpoint = {"endpoint": "/v1/x", "method": "POST", "description": "Does x", "requiresAuth": True}
    found = {**instance(), "endpoints": [endpoint], "lastProbe": None}
    with serving(ok(found), ok(found), ok({**found, "endpoints": []})) as (_, url):
        assert run(["services", "show", "a", "--url", url]) == 0
        printed = capsys.readouterr().out
        assert "status reason        is healthy\n" in printed
        assert printed.endswith("METHOD  ENDPOINT  AUTH  DESCRIPTION\nPOST    /v1/x     yes   Does x\n")
        assert run(["services", "show", "a", "--url", url, "-o", "jsonl"]) == 0
        assert json.loads(capsys.readouterr().out) == found
        assert run(["services", "show", "a", "--url", url]) == 0
        assert "says nothing of what it offers" in capsys.readouterr().err


def test_a_picture_and_the_next_one_make_the_changes_between_them():
    before = {
        "gone": instance("gone"),
        "same": instance("same"),
        "turned": instance("turned"),
        "moved": instance("moved", tags=["x"]),
    }
    after = {
        "same": instance("same", lastHeartbeat="2026-11-24T02:00:10.000Z"),
        "turned": instance("turned", "unhealthy"),
        "moved": instance("moved", tags=["y"], port=9, stale=True),
        "new": instance("new", "unknown"),
    }
    found = {change["id"]: change for change in changes(before, after)}
    assert {key: (one["change"], one["previousStatus"], one["status"]) for key, one in found.items()} == {
        "gone": ("removed", "healthy", None),
        "turned": ("status", "healthy", "unhealthy"),
        "moved": ("changed", "healthy", "healthy"),
        "new": ("added", None, "unknown"),
    }
    assert found["moved"]["fields"] == ["port", "tags", "stale"]
    assert found["turned"]["reason"] == "is unhealthy"
    assert [change["change"] for change in changes(None, after)] == ["present"] * 4
    assert list(changes(after, after)) == []


def test_watching_tells_what_changed_and_goes_on_with_the_index(capsys):
    answers = [listed(5, instance()), listed(7, instance(status="unhealthy")), listed(9)]
    with serving(*answers) as (server, url):
        assert run(["services", "watch", "--type", "orders", "--tag", "x", "--count", "3", "--url", url]) == 0
    assert [path for _, path, _, _ in server.asked] == [
        "/v1/services?type=orders&tag=x",
        "/v1/services?type=orders&tag=x&index=5&wait=60s",
        "/v1/services?type=orders&tag=x&index=7&wait=60s",
    ]
    lines = [line.split("  ")[1:] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["present", "a", "orders", "http://127.0.0.1:8080", "healthy", "is healthy"],
        ["status", "a", "orders", "http://127.0.0.1:8080", "healthy → unhealthy", "is unhealthy"],
        ["removed", "a", "orders", "http://127.0.0.1:8080", "was unhealthy", "is unhealthy"],
    ]


def test_a_status_is_watched_in_both_directions(capsys):
    pictures = ["healthy", "unknown", "healthy", "draining", "unhealthy", "healthy"]
    with serving(*[listed(n, instance(status=status)) for n, status in enumerate(pictures)]) as (_, url):
        arguments = ["--status", "healthy", "--count", "5", "-o", "jsonl"]
        assert run(["services", "watch", *arguments, "--url", url]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["previousStatus"], one["status"]) for one in found] == [
        (None, "healthy"),
        ("healthy", "unknown"),
        ("unknown", "healthy"),
        ("healthy", "draining"),
        ("unhealthy", "healthy"),
    ]


def test_a_watcher_waits_for_a_daemon_that_went_away_and_says_so(monkeypatch, capsys):
    waits = []
    monkeypatch.setattr(follow_module.time, "sleep", waits.append)
    answers = [
        listed(5, instance()),
        b"",
        refusal(503, "Draining", "It stops"),
        listed(6),
        listed(7, instance()),
    ]
    with serving(*answers) as (server, url):
        assert run(["services", "watch", "--count", "3", "-o", "jsonl", "--url", url]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["change"] for line in printed.out.splitlines()] == [
        "present",
        "removed",
        "added",
    ]
    assert printed.err.count("broke") == 2  # once in the reason, once in the word that it is over
    assert f"{url} answers again" in printed.err
    assert waits == [0.2, 0.5]
    assert server.asked[3][1] == "/v1/services?index=5&wait=60s"


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([b""], 5),
        ([refusal(400, "Invalid input", "Bad type")], 1),
        ([listed(5), refusal(401, "Unauthorized", "Revoked")], 4),
        ([ok({"items": []})], 1),
    ],
)
def test_what_waiting_does_not_mend_ends_a_watcher(answers, code):
    with serving(*answers) as (_, url):
        assert run(["services", "watch", "--url", url]) == code
