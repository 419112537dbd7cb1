"""The rules that every route shares, each as a table: what comes in, what is answered."""

import json
import logging
import re

import pytest
import trio

from econeura_daemon.core.clock import SystemClock, parse_instant
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server import Scope, TokenFile, create_token
from econeura_daemon.server.context import Peer, RequestContext, is_loopback
from econeura_daemon.server.problems import PROBLEMS
from econeura_daemon.server.requests import Request as Asked
from econeura_daemon.server.rules.access import CheckAccess
from econeura_daemon.server.rules.body import BodyBounds, BodyRefusedError, BoundedBody
from econeura_daemon.server.rules.memory import Memory, Share
from tests.http.server_rig import App, Client, request, serving


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return json.loads(answer.body)


# Request ids.

IDS = [
    ("abc-123", "abc-123"),
    ("a b", "a b"),
    ("x" * 128, "x" * 128),
    ("x" * 129, None),
    ("ä", None),
    ("", None),
]


@pytest.mark.parametrize(("given", "returned"), IDS)
@pytest.mark.parametrize("path", ["/blind", "/fail", "/silent"])
async def test_the_request_id_is_the_callers_if_it_fits_and_on_every_answer(given, returned, path):
    async with serving() as rig:
        answer = await rig.ask(request(path, headers=f"X-Request-ID: {given}\r\n"))
        if returned is None:
            assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
        else:
            assert answer.headers["x-request-id"] == returned


REFUSED = {
    400: b"nonsense\r\n\r\n",
    401: request("/admin", headers="X-Forwarded-For: 192.0.2.1\r\n"),
    403: request("/blind", method="POST", headers="Origin: http://evil.example\r\nContent-Length: 0\r\n"),
    408: request("/echo", method="POST", headers="Content-Length: 10\r\n"),
    413: request("/echo", method="POST", headers="Content-Length: 999999999\r\n"),
    414: request("/" + "x" * 9000),
    417: request(headers="Expect: wonders\r\n"),
    421: request(host="evil.example"),
    431: request(headers="A: " + "x" * 40_000 + "\r\n"),
    500: request("/fail"),
    501: request(method="POST", headers="Transfer-Encoding: gzip\r\n"),
    505: b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize(("status", "raw"), REFUSED.items())
async def test_every_refusal_is_a_problem_with_every_member(status, raw):
    async with serving(body_timeout_ms=200) as rig:
        answer = await rig.ask(raw)
    assert answer.status == status
    told = problem(answer)
    slug = told["type"].removeprefix("/problems/")
    assert PROBLEMS[slug] == (status, told["title"])
    assert told["error"] == told["title"]
    assert told["status"] == status
    assert told["success"] is False
    assert told["details"] == []
    assert told["instance"] == answer.headers["x-request-id"]
    assert parse_instant(told["timestamp"])
    assert told["detail"]
    assert set(told) == {
        "type", "title", "status", "detail", "instance", "success", "error", "details", "timestamp"
    }  # fmt: skip


async def test_trace_context_is_read_if_it_is_valid():
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with serving() as rig:
        good = await rig.ask(
            request("/context", headers=f"traceparent: {parent}\r\ntracestate: a=1\r\ntracestate: b=2\r\n")
        )
        assert f"traceparent='{parent}'".encode() in good.body
        assert b"tracestate='a=1,b=2'" in good.body
        bad = await rig.ask(request("/context", headers=f"traceparent: {parent[:-1]}\r\n"))
        assert b"traceparent=None" in bad.body


# Failures.


@pytest.mark.parametrize("path", ["/fail", "/silent"])
async def test_an_escaped_exception_is_a_500_that_tells_nothing(path, caplog):
    async with serving() as rig:
        answer = await rig.ask(request(path, headers="X-Request-ID: the-one\r\n"))
    assert answer.status == 500
    assert b"swordfish" not in answer.body
    assert b"Traceback" not in answer.body
    if path == "/fail":
        (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert record.request_id == "the-one"
        assert "swordfish" in caplog.text


async def test_an_exception_after_the_answer_began_cuts_it_off():
    async with serving() as rig:
        answer = await rig.ask(request("/fail_late"))
        assert answer.body == b"begun"
        assert not answer.is_complete
        assert (await rig.ask(request("/blind"))).status == 200


# The body's time.


async def test_a_body_time_that_is_overdrawn_is_408_too(autojump_clock):
    async def receive_late():
        await trio.lowlevel.checkpoint()
        with trio.CancelScope(shield=True):
            await trio.sleep(9)
        return {"type": "http.request", "body": b"x", "more_body": True}

    body = BoundedBody(receive_late, BodyBounds(100, 3), Share(Memory(HttpSettings())))
    assert (await body.receive())["body"] == b"x"
    with pytest.raises(BodyRefusedError) as refused:
        await body.receive()
    assert refused.value.problem.status == 408


# Host.

HOSTS = [
    ("localhost", 200),
    ("LOCALHOST.", 200),
    ("localhost:9999", 200),
    ("127.0.0.1", 200),
    ("127.3.4.5:80", 200),
    ("[::1]:3001", 200),
    ("listed.example", 200),
    ("Listed.Example:443", 200),
    ("evil.example", 421),
    ("localhost.evil.example", 421),
    ("127.0.0.1.evil.example", 421),
    ("192.0.2.1", 421),
    ("[2001:db8::1]", 421),
    ("", 421),
]


@pytest.mark.parametrize(("host", "status"), HOSTS)
async def test_only_our_own_names_are_answered(host, status):
    async with serving(allowed_hosts=("listed.example",)) as rig:
        assert (await rig.ask(request("/blind", host=host))).status == status


async def test_an_absolute_target_says_the_host():
    async with serving() as rig:
        raw = b"GET http://evil.example/blind HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert (await rig.ask(raw)).status == 421
        raw = b"GET http://localhost:1/context?a=b HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        assert (await rig.ask(raw)).status == 200
        assert rig.app.calls == ["/context"]


async def test_http10_without_host_and_unix_sockets_with_any_are_answered(tmp_path):
    async with serving() as rig:
        answer = await rig.ask(b"GET /blind HTTP/1.0\r\n\r\n", until_closed=True)
        assert answer.status == 200
    async with serving(unix=tmp_path / "socket") as rig:
        assert (await rig.ask(request("/blind", host="anything.example"))).status == 200


# Origin.

ORIGINS = [
    ("GET", "Origin: http://evil.example\r\n", 200),
    ("POST", "", 200),
    ("POST", "Origin: http://localhost\r\n", 200),
    ("POST", "Origin: http://LOCALHOST\r\n", 200),
    ("POST", "Origin: https://listed.example\r\n", 200),
    ("POST", "Origin: https://listed.example\r\nSec-Fetch-Site: cross-site\r\n", 200),
    ("POST", "Sec-Fetch-Site: same-origin\r\n", 200),
    ("POST", "Sec-Fetch-Site: none\r\n", 200),
    ("POST", "Sec-Fetch-Site: cross-site\r\n", 403),
    ("POST", "Origin: http://evil.example\r\n", 403),
    ("POST", "Origin: http://localhost:8080\r\n", 403),
    ("POST", "Origin: http://localhost.evil.example\r\n", 403),
    ("POST", "Origin: https://listed.example.evil.example\r\n", 403),
    ("POST", "Origin: null\r\n", 403),
    ("PUT", "Origin: null\r\n", 403),
    ("DELETE", "Origin: null\r\n", 403),
    ("PATCH", "Origin: http://evil.example\r\n", 403),
]


@pytest.mark.parametrize(("method", "headers", "status"), ORIGINS)
async def test_foreign_pages_change_nothing(method, headers, status):
    async with serving(allowed_origins=("https://listed.example",)) as rig:
        answer = await rig.ask(request("/blind", method=method, headers=headers + "Content-Length: 0\r\n"))
        assert answer.status == status
        assert rig.app.calls == (["/blind"] if status == 200 else [])


async def test_a_page_without_an_origin_is_foreign_even_where_host_is_empty(tmp_path):
    async with serving(unix=tmp_path / "socket") as rig:
        raw = request("/blind", method="POST", host="", headers="Origin: null\r\nContent-Length: 0\r\n")
        assert (await rig.ask(raw)).status == 403


async def test_listed_origins_get_cors_and_others_none():
    preflight = "Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a\r\n"
    async with serving(allowed_origins=("https://listed.example",)) as rig:
        answer = await rig.ask(
            request("/x", method="OPTIONS", headers=preflight + "Origin: https://listed.example\r\n")
        )
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == "https://listed.example"
        assert "PUT" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "x-a"
        assert rig.app.calls == []
        answer = await rig.ask(request("/fail", headers="Origin: https://listed.example\r\n"))
        assert answer.status == 500
        answer = await rig.ask(request("/blind", headers="Origin: https://evil.example\r\n"))
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"
    async with serving() as rig:
        answer = await rig.ask(request("/blind", headers="Origin: https://listed.example\r\n"))
        assert not [name for name in answer.headers if name.startswith(("access-control", "vary"))]


# Access.


@pytest.fixture
def tokens(tmp_path):
    texts = {scope.value: create_token(tmp_path, scope.value, [scope], SystemClock())[1] for scope in Scope}
    texts["unknown"] = "eco_" + "0" * 43
    texts["foreign"] = "somebody-elses"
    return TokenFile(tmp_path), texts


# who, token, path -> status when tokens are required of all, and when local callers need none
ACCESS = [
    (None, "/open", 200, 200),
    (None, "/read", 401, 200),
    (None, "/admin", 401, 200),
    ("read", "/open", 200, 200),
    ("read", "/read", 200, 200),
    ("read", "/publish", 403, 403),
    ("read", "/admin", 403, 403),
    ("publish", "/publish", 200, 200),
    ("publish", "/read", 403, 403),
    ("admin", "/admin", 200, 200),
    ("admin", "/publish", 403, 403),
    ("unknown", "/open", 200, 200),
    ("unknown", "/read", 401, 401),
    ("foreign", "/open", 200, 200),
    ("foreign", "/read", 401, 401),
]


@pytest.mark.parametrize(("token", "path", "required", "local"), ACCESS)
@pytest.mark.parametrize("via", ["tcp", "unix"])
async def test_who_may_do_what(token, path, required, local, via, tokens, tmp_path):
    file, texts = tokens
    headers = "" if token is None else f"Authorization: Bearer {texts[token]}\r\n"
    unix = tmp_path / "socket" if via == "unix" else None
    for auth_required, expected in ((True, required), (False, local)):
        async with serving(tokens=file, auth_required=auth_required, unix=unix) as rig:
            answer = await rig.ask(request(path, headers=headers))
            assert answer.status == expected
            assert ("www-authenticate" in answer.headers) == (expected in {401, 403})
            assert bool(rig.app.calls) == (expected == 200)


@pytest.mark.parametrize("presented", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "eco_x", "Digest a=b"])
async def test_what_is_no_token_is_refused_even_of_a_local_peer(presented, tokens):
    async with serving(tokens=tokens[0]) as rig:
        answer = await rig.ask(request("/read", headers=f"Authorization: {presented}\r\n"))
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith('Bearer realm="econeura-daemon"')
        answer = await rig.ask(request("/open", headers=f"Authorization: {presented}\r\n"))
        assert answer.status == 200


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        (Peer("127.0.0.1:1", is_local=True), 200),
        (Peer("unix", is_local=True, is_unix=True), 200),
        (Peer("192.0.2.7:1", is_local=False), 401),
    ],
)
async def test_a_peer_on_another_machine_needs_a_token(peer, status, tokens):
    """Tests stay on loopback, so the peer is told to the rule instead of coming from elsewhere."""
    check = CheckAccess(tokens[0], SystemClock(), required=False)
    context = RequestContext(request_id="r", peer=peer.name)
    refused = check(Asked("GET", "/read", [], {}, peer, None, context), Scope.READ)
    assert (200 if refused is None else refused.status) == status


@pytest.mark.parametrize(
    "name", ["Forwarded", "X-Forwarded-For", "x-forwarded-host", "X-FORWARDED-PROTO", "X-Forwarded-Anything"]
)
async def test_what_came_through_a_proxy_needs_a_token(name, tokens):
    file, texts = tokens
    async with serving(tokens=file) as rig:
        answer = await rig.ask(request("/read", headers=f"{name}: x\r\n"))
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="econeura-daemon"'
        headers = f"{name}: x\r\nauthorization: bearer  {texts['read']}\r\n"
        assert (await rig.ask(request("/read", headers=headers))).status == 200
        assert (await rig.ask(request("/open", headers=f"{name}: x\r\n"))).status == 200


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_a_peer_is_local_by_its_address_alone(host, is_ours):
    assert is_loopback(host) is is_ours


async def test_the_principal_is_told_to_the_application(tokens):
    file, texts = tokens
    async with serving(tokens=file) as rig:
        answer = await rig.ask(request("/context"))
        assert b"name='local'" in answer.body
        answer = await rig.ask(request("/context", headers=f"Authorization: Bearer {texts['publish']}\r\n"))
        assert b"name='publish'" in answer.body
        answer = await rig.ask(request("/context", headers="Forwarded: for=x\r\n"))
        assert b"name='anonymous'" in answer.body


# What is counted and logged.


async def test_answers_are_counted_by_route_and_status():
    async with serving() as rig:
        await rig.ask(request("/context"))
        await rig.ask(request("/fail"))
        await rig.ask(b"nonsense\r\n\r\n")
        assert rig.metrics.http_requests.value("GET", "/context", "200") == 1
        assert rig.metrics.http_requests.value("GET", "other", "500") == 1
        assert rig.metrics.http_requests.value("other", "other", "400") == 1
        assert rig.metrics.http_requests_in_flight.value() == 0
        await rig.wait_for_connections(0)
        assert rig.metrics.http_connections.value() == 0


async def test_a_client_that_left_is_counted_as_499():
    async with serving() as rig:
        async with Client(await rig.connect()) as client:
            await client.send(request("/wait"))
            with trio.fail_after(10):
                await rig.app.entered.wait()
        await rig.wait_for_connections(0)
        assert rig.metrics.http_requests.value("GET", "other", "499") == 1


async def test_the_access_log_has_a_line_an_answer(caplog):
    caplog.set_level(logging.INFO)
    async with serving(App(), access_log=True) as rig:
        await rig.ask(request("/blind?token=secret", headers="X-Request-ID: me\r\n"))
    (record,) = [record for record in caplog.records if record.getMessage() == "GET /blind 200"]
    assert (record.request_id, record.principal) == ("me", "local")
    assert record.peer.startswith("127.0.0.1:")
    assert "secret" not in caplog.text
