"""The client commands against a server of the test's own, on real sockets."""

import json
import socket
import threading

import pytest

from econeura_daemon.cli import follow as follow_module
from econeura_daemon.cli.address import parse_address
from econeura_daemon.cli.client import TIMEOUT, Client, sse
from econeura_daemon.cli.exits import CommandError, Exit
from econeura_daemon.cli.root import run
from tests.support.answering import ok, refusal, serving
from tests.support.ports import free_port


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (
            refusal(400, "Invalid input", "It does not fit", [("$.type", "is missing")]),
            1,
            "$.type: is missing",
        ),
        (refusal(401, "Unauthorized", "No token"), 4, "ECONEURA_TOKEN_FILE"),
        (refusal(403, "Forbidden", "Beyond scope"), 4, "Forbidden (403): Beyond scope"),
        (refusal(404, "Not found", "There is no x"), 3, "There is no x"),
        (refusal(409, "Conflict", "No"), 6, "Conflict (409): No"),
        (refusal(422, "Idempotency key reused", "No"), 1, "(422)"),
        (refusal(503, "Overloaded", "Later"), 1, "the daemon's log tells more of request req-1"),
        (refusal(500, "Internal error", "\x1b[31mred"), 1, "\\x1b[31mred"),
        ((502, b"<html>nginx</html>"), 1, "Bad Gateway (502)"),
        ((400, {"details": 5}), 1, "Bad Request (400)"),
        ((200, b"<html>other</html>"), 1, "is no econeura-daemon"),
        ((200, [1]), 1, "is no econeura-daemon"),
        (b"", 5, "broke"),
        (b"SSH-2.0-OpenSSH\r\n", 5, "broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", 5, "broke"),
    ],
)
def test_what_a_daemon_refuses_becomes_sentences_and_an_exit_code(answer, code, said, capsys):
    with serving(answer) as (_, url):
        assert run(["webhooks", "list", "--url", url]) == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_a_daemon_that_is_not_there_is_told_with_what_to_do(capsys):
    assert run(["events", "send", "a", "--url", f"http://127.0.0.1:{free_port()}"]) == Exit.UNREACHABLE
    assert "start one with `econeura-daemon serve`" in capsys.readouterr().err


@pytest.mark.parametrize(("method", "details"), [("GET", 1), ("POST", 2)])
def test_a_daemon_that_is_stopped_is_unreachable_after_a_while(method, details):
    assert TIMEOUT <= 10
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as stopped:  # the kernel accepts for it, as for a stopped process
        url = f"http://127.0.0.1:{stopped.getsockname()[1]}"
        with pytest.raises(CommandError) as caught:
            Client(parse_address(url), patience=0.2).call(method, "/v1/services")
    assert caught.value.exit_code == Exit.UNREACHABLE
    assert str(caught.value) == f"{url} does not answer: timed out"
    assert len(caught.value.details) == details


def test_an_answer_that_stops_in_the_middle_is_a_daemon_that_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def begin():
            accepted.append(listener.accept()[0])
            accepted[0].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")

        accepted = []
        thread = threading.Thread(target=begin)
        thread.start()
        with pytest.raises(CommandError, match="does not answer: timed out"):
            Client(parse_address(url), patience=0.2).get("/v1/services")
        thread.join()
        accepted[0].close()


def test_a_write_whose_answer_was_lost_says_that_nobody_knows(capsys):
    with serving(b"") as (_, url):
        assert run(["events", "send", "a", "--url", url]) == Exit.UNREACHABLE
    assert "nobody knows" in capsys.readouterr().err


def test_an_event_is_sent_as_it_was_said(capsys):
    with serving(ok({"id": "e1", "deliveries": 2})) as (server, url):
        arguments = ["--data", '{"ö": [1, null]}', "--source", "s", "--id", "e1", "--token", "t"]
        assert run(["events", "send", "a.b", *arguments, "--url", url + "/prefix"]) == 0
    ((method, path, headers, body),) = server.asked
    assert (method, path) == ("POST", "/prefix/v1/events")
    assert body == {"type": "a.b", "data": {"ö": [1, None]}, "source": "s", "id": "e1"}
    assert headers["Authorization"] == "Bearer t"
    assert headers["Host"] == url.removeprefix("http://")
    assert capsys.readouterr().out == "ID  DELIVERIES  DUPLICATE\ne1  2           no\n"


def test_environment_names_daemon_and_token(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("from-file\n")
    with serving(ok({"items": []}), ok({"items": []})) as (server, url):
        monkeypatch.setenv("ECONEURA_URL", url)
        monkeypatch.setenv("ECONEURA_TOKEN_FILE", str(tmp_path / "token"))
        assert run(["events", "list"]) == 0
        monkeypatch.setenv("ECONEURA_TOKEN", "from-variable")
        assert run(["events", "list"]) == 0
    assert [headers["Authorization"] for _, _, headers, _ in server.asked] == [
        "Bearer from-file",
        "Bearer from-variable",
    ]


def test_a_token_file_that_is_missing_is_told(monkeypatch, capsys):
    monkeypatch.setenv("ECONEURA_TOKEN_FILE", "/nowhere/token")
    assert run(["events", "list", "--url", "http://127.0.0.1:9"]) == Exit.FAILED
    assert "/nowhere/token: No such file" in capsys.readouterr().err


def test_a_unix_socket_is_spoken_to(tmp_path, capsys):
    with serving(ok({"items": []}), unix=tmp_path / "s") as (server, url):
        assert run(["events", "list", "--url", url]) == 0
    assert server.asked[0][2]["Host"] == "localhost"
    assert capsys.readouterr().err == "No events.\n"


def test_a_list_is_read_page_by_page_up_to_the_limit(capsys):
    def page(start, count, cursor):
        rows = [
            {"timestamp": "t", "type": "a", "id": str(n), "source": "s", "data": {}}
            for n in range(start, start + count)
        ]
        return ok({"items": rows, "nextCursor": cursor})

    with serving(page(0, 250, "c1"), page(250, 50, "c2")) as (server, url):
        arguments = ["--limit", "300", "--type", "a.*", "--since", "2026-11-24T02:00:00Z", "-o", "jsonl"]
        assert run(["events", "list", *arguments, "--url", url]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 300
    assert [path for _, path, _, _ in server.asked] == [
        "/v1/events?type=a.*&since=2026-11-24T02%3A00%3A00.000Z&limit=250",
        "/v1/events?type=a.*&since=2026-11-24T02%3A00%3A00.000Z&limit=50&cursor=c1",
    ]


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["webhooks", "show", "../x"], ("GET", "/v1/webhooks/subscriptions/..%2Fx")),
        (["webhooks", "delete", "sub_1"], ("DELETE", "/v1/webhooks/subscriptions/sub_1")),
        (
            [
                "webhooks",
                "deliveries",
                "--status",
                "failed",
                "--subscription",
                "s",
                "--event",
                "e",
                "--event-type",
                "a.*",
            ],
            (
                "GET",
                "/v1/webhooks/deliveries?status=failed&subscriptionId=s&eventId=e&eventType=a.*&limit=50",
            ),
        ),
    ],
)
def test_each_command_asks_its_route(arguments, asked):
    with serving(ok({"items": []})) as (server, url):
        assert run([*arguments, "--url", url]) == 0
    assert server.asked[0][:2] == asked


def test_a_subscription_is_made_with_what_was_said(tmp_path):
    (tmp_path / "secret").write_text("from a file\n")
    with serving((201, ok({"id": "sub_1"})[1])) as (server, url):
        arguments = [
            "--events",
            "a.*, b",
            "--secret",
            f"@{tmp_path}/secret",
            "--header",
            "X-A: b:c",
            "--inactive",
        ]
        assert run(["webhooks", "subscribe", "http://r/", *arguments, "--url", url]) == 0
    assert server.asked[0][3] == {
        "url": "http://r/",
        "events": ["a.*", "b"],
        "active": False,
        "secret": "from a file",
        "headers": {"X-A": "b:c"},
    }


def test_a_delivery_is_shown_with_its_attempts(capsys):
    attempt = {
        "number": 1,
        "trigger": "scheduled",
        "status": "failed",
        "startedAt": "t",
        "durationMs": 5,
        "statusCode": 500,
        "error": None,
    }
    delivery = {"id": "del_1", "status": "retrying", "attemptLog": [attempt]}
    with serving(ok(delivery), ok(delivery)) as (_, url):
        assert run(["webhooks", "deliveries", "del_1", "--url", url]) == 0
        printed = capsys.readouterr().out
        assert "status  retrying" in printed
        assert "scheduled  failed" in printed
        assert run(["webhooks", "deliveries", "del_1", "--url", url, "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == delivery


@pytest.mark.parametrize(
    ("status", "code", "exit_code"), [("healthy", 200, 0), ("degraded", 200, 0), ("unhealthy", 503, 1)]
)
def test_health_and_status_exit_by_how_the_daemon_is(status, code, exit_code, capsys):
    health = {
        "status": status,
        "service": "econeura-daemon",
        "version": "1",
        "uptime": 93784.5,
        "features": ["events"],
        "components": {"database": {"status": status, "detail": "it is so"}},
    }
    answer = code, {"success": code == 200, "data": health, "timestamp": "t"}
    with serving(answer, answer, answer, ok({"pendingDeliveries": 3})) as (_, url):
        assert run(["health", "--url", url]) == exit_code
        assert f"is {status}, up 1d 2h" in capsys.readouterr().out
        assert run(["health", "--url", url, "-o", "json"]) == exit_code
        assert json.loads(capsys.readouterr().out) == health
        assert run(["status", "--url", url]) == exit_code
        printed = capsys.readouterr().out
        assert "pending deliveries  3" in printed
        assert ("database: it is so" in printed) == (status != "healthy")


def stream(text):
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + text.encode()


def event(cursor, id_):
    body = json.dumps({"id": id_, "type": "a", "timestamp": "t", "source": "s", "data": {}})
    return f"id: {cursor}\nevent: a\ndata: {body}\n\n"


def test_a_stream_that_breaks_is_taken_up_where_it_ended(monkeypatch, capsys):
    waits = []
    monkeypatch.setattr(follow_module.time, "sleep", waits.append)
    answers = [
        stream(": hello\n\nid: 4\n\n" + event(5, "e5")),
        stream(""),
        refusal(503, "Draining", "It stops"),
        b"",
        stream(event(6, "e6") + 'id: 9\nevent: lagged\ndata: {"cursor": 9, "lost": true}\n\n'),
        stream(event(10, "e10")),
    ]
    with serving(*answers) as (server, url):
        arguments = ["--types", "a,b.*", "--count", "3", "-o", "jsonl"]
        assert run(["events", "tail", *arguments, "--url", url]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["id"] for line in printed.out.splitlines()] == ["e5", "e6", "e10"]
    assert [headers.get("Last-Event-ID") for _, _, headers, _ in server.asked] == [
        None,
        "5",
        "5",
        "5",
        "5",
        "9",
    ]
    assert server.asked[0][1] == "/v1/stream?types=a,b.*"
    assert "no longer kept were missed; going on from cursor 9" in printed.err
    assert printed.err.count("ended the stream; coming back") == 3
    assert printed.err.count("answers again; going on where it broke off") == 3
    assert waits == [0.2, 0.5, 1.0, 2.0, 0.2]


def test_a_stream_that_broke_before_the_first_event_is_taken_up_where_it_began(monkeypatch, capsys):
    monkeypatch.setattr(follow_module.time, "sleep", lambda _: None)
    with serving(stream(": hello\n\nid: 4\n\n"), stream(event(5, "e5"))) as (server, url):
        assert run(["events", "tail", "--count", "1", "--url", url]) == 0
    assert [headers.get("Last-Event-ID") for _, _, headers, _ in server.asked] == [None, "4"]


def test_an_event_that_is_called_lagged_is_an_event(monkeypatch, capsys):
    with serving(stream(event(5, "e5").replace("event: a", "event: lagged"))) as (_, url):
        assert run(["events", "tail", "--count", "1", "-o", "jsonl", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "e5"


def test_a_stream_since_an_instant_begins_behind_the_last_event_before_it(capsys):
    instants = {
        cursor: f"2026-11-24T02:{cursor:02}:00.000Z" for cursor in (3, 4, 7, 8, 11)
    }  # some are not kept

    def answer(request):
        after = request[2].get("Last-Event-ID")
        cursor = 11 if after is None else max(2, int(after))
        later = "".join(
            event(key, f"e{key}").replace('"t"', f'"{instant}"')
            for key, instant in instants.items()
            if key > cursor
        )
        return stream(f"id: {cursor}\n\n{later}")

    for since, first in (
        ("03:30", "e4"),
        ("04:00", "e4"),
        ("05:00", "e7"),
        ("00:00", "e3"),
        ("10:00", "e11"),
    ):
        with serving(*[answer] * 10) as (_, url):
            arguments = ["--since", f"2026-11-24T02:{since}Z", "--count", "1", "-o", "jsonl"]
            assert run(["events", "tail", *arguments, "--url", url]) == 0
        assert json.loads(capsys.readouterr().out)["id"] == first


@pytest.mark.parametrize(
    ("answer", "code"),
    [(b"", 5), (refusal(400, "Invalid input", "Bad type"), 1), (refusal(503, "Draining", ""), 1)],
)
def test_a_stream_that_never_began_is_a_failure(answer, code):
    with serving(answer) as (_, url):
        assert run(["events", "tail", "--url", url]) == code


def test_server_sent_events_are_read_in_any_cut():
    class Lines:
        def __init__(self, text):
            self.lines = text.encode().splitlines(keepends=True)

        def readline(self):
            return self.lines.pop(0) if self.lines else b""

    text = "retry: 5\r\n\r\n: comment\n\nid: 1\ndata: a\ndata:b\n\nevent: x\n\nid: 2\n\ndata: cut"
    assert list(sse(Lines(text))) == [("1", "message", "a\nb"), ("2", "", "")]


def test_a_client_shows_no_token():
    client = Client(parse_address("http://127.0.0.1:1"), "hunter2")
    assert "hunter2" not in repr(client)
    with pytest.raises(CommandError) as caught:
        client.get("/")
    assert "hunter2" not in caught.value.format_message()
