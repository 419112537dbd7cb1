"""HTTP through the gateway to the letter: what is one hop's stays there, everything else passes byte for byte."""

import pytest
import trio

from tests.http.gateway_rig import open_rig, problem, raw
from tests.http.server_rig import Client
from tests.http.test_server_tls import H2Client, connect
from tests.support.scripted_instance import OK, open_scripted

PATIENCE = 30
PATH = "/v1/mesh/workers"


@pytest.fixture
async def rig(tmp_path):
    with trio.fail_after(PATIENCE):
        async with open_scripted() as instance, open_rig(tmp_path) as opened:
            opened.instance = instance
            await opened.register("w1", instance.port)
            yield opened


def answered(*lines, status="200 OK", body=b"ok"):
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body


async def raw_answer(rig, request):
    """Return all that comes for a request, until the connection closes."""
    async with Client(await rig.connect()) as client:
        await client.send(request)
        found = b""
        with trio.fail_after(PATIENCE):
            while part := await client.stream.receive_some(65536):
                found += part
    return found


async def lines_of_answer(rig, method="GET"):
    """Return status line, header lines (names are in lower case), and the rest."""
    found = await raw_answer(rig, raw(method, f"{PATH}/x", b"", "Connection: close"))
    head, _, body = found.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return status, [tuple(line.split(b": ", 1)) for line in lines], body


def only(lines, name):
    (value,) = [value for key, value in lines if key == name]
    return value


# Towards the instance.

TARGETS = [
    "/", "/a%2Fb", "/a%2fb%20c", "//", "/a//b", "/a/", "/%7e~", "/*", "/..", "/a/../b", "/%2e%2e/c", "/;a=b", "/a:b@c",
    "/%C3%A4", "/%ff", "/%00", "/%zz", "/%", '/[x]|^`{}"<>\\', "/?a=b", "/?%20+&&=?/", "/x??", "/x?a=%2F%zz",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
async def test_a_target_arrives_byte_for_byte(rig, target):
    answer = await rig.ask("GET", PATH + target)
    assert (answer.status, answer.body) == (200, b"ok")
    assert rig.instance.heads[0].split(b"\r\n")[0] == f"GET {target} HTTP/1.1".encode()


async def test_an_absolute_target_is_asked_for_by_its_path(rig):
    await rig.ask("GET", f"http://localhost:3001{PATH}/a?b")
    assert rig.instance.heads[0].startswith(b"GET /a?b HTTP/1.1\r\n")


async def test_an_empty_query_is_none(rig):
    await rig.ask("GET", f"{PATH}/a?")
    assert rig.instance.heads[0].startswith(b"GET /a HTTP/1.1\r\n")


async def test_headers_of_the_hop_and_those_that_connection_names_do_not_reach_the_instance(rig):
    hop = {
        "Connection": "keep-alive , X-Named,x-other", "X-Named": "1", "X-Other": "2", "Keep-Alive": "timeout=5",
        "Proxy-Connection": "keep-alive", "TE": "trailers, deflate", "Trailer": "X-Sum", "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA",
    }  # fmt: skip
    kept = ["X-Kept: 1", "x-kept: 2", "X-KEPT:3", "Accept: a", "Accept: b", "X-Latin: \xe4\xff"]
    request = raw("GET", f"{PATH}/x", b"", *(f"{name}: {value}" for name, value in hop.items()))
    request = request.removesuffix(b"\r\n") + "\r\n".join([*kept, "", ""]).encode("latin-1")
    async with Client(await rig.connect()) as client:
        await client.send(request)
        assert (await client.answer()).status == 200
    assert not {name.lower().encode() for name in hop} & {name for name, _ in rig.instance.lines}
    assert rig.instance.values(b"x-kept") == [b"1", b"2", b"3"]
    assert rig.instance.values(b"accept") == [b"a", b"b"]
    assert rig.instance.values(b"x-latin") == ["\xe4\xff".encode("latin-1")]
    for name in (b"host", b"x-request-id", b"x-forwarded-for", b"forwarded", b"via", b"traceparent"):
        assert len(rig.instance.values(name)) == 1


async def test_connection_cannot_name_away_what_the_gateway_says(rig):
    names = "x-forwarded-for, forwarded, via, x-request-id, host, x-timeout-ms, content-length"
    answer = await rig.ask("POST", f"{PATH}/x", b"body", f"Connection: {names}", "X-Forwarded-For: 192.0.2.1",
                           "Authorization: Bearer eco_publisher")  # fmt: skip
    assert answer.status == 200
    assert rig.instance.bodies == [b"body"]
    assert rig.instance.values(b"content-length") == [b"4"]
    assert rig.instance.values(b"x-forwarded-for")[0].endswith(b"127.0.0.1")
    for name in (b"forwarded", b"via", b"x-request-id", b"host", b"x-timeout-ms"):
        assert len(rig.instance.values(name)) == 1


async def test_the_way_is_added_to_and_not_made_up(rig):
    token = "Authorization: Bearer eco_publisher"
    given = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2, 192.0.2.3", "Via: 1.0 a", "Via: 2 b"]
    await rig.ask("GET", f"{PATH}/x", b"", token, *given, "X-Forwarded-Proto: https")
    assert rig.instance.values(b"x-forwarded-for") == [b"192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1"]
    assert rig.instance.values(b"via") == [b"1.0 a", b"2 b", b"1.1 econeura-daemon"]
    assert rig.instance.values(b"x-forwarded-proto") == [b"https"]


async def test_trailers_of_a_request_do_not_pass(rig):
    async with Client(await rig.connect()) as client:
        await client.send(raw("POST", f"{PATH}/x", b"", "Transfer-Encoding: chunked", "Trailer: X-Sum"))
        await client.send(b"2;ext=1\r\nok\r\n0\r\nX-Sum: 1\r\nAuthorization: x\r\n\r\n")
        assert (await client.answer(method="POST")).status == 200
        await client.send(raw("GET", f"{PATH}/y"))
        assert (await client.answer()).status == 200
    assert b"X-Sum" not in rig.instance.bodies[0]
    assert b"ok" in rig.instance.bodies[0]


@pytest.mark.parametrize(
    "framing", ["Content-Length: 5", "Content-Length: 100000", "Transfer-Encoding: chunked"]
)
async def test_who_expects_100_continue_is_told_to_go_on_and_the_instance_is_not_asked(rig, framing):
    size = int(framing.split()[1]) if framing[0] == "C" else 5
    body = b"x" * size
    async with Client(await rig.connect()) as client:
        await client.send(raw("POST", f"{PATH}/x", b"", framing, "Expect: 100-continue"))
        with trio.fail_after(PATIENCE):
            assert (await client.stream.receive_some(4096)).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.send(body if framing[0] == "C" else b"5\r\nxxxxx\r\n0\r\n\r\n")
        answer = await client.answer(method="POST")
    assert (answer.status, answer.body) == (200, b"ok")
    assert rig.instance.values(b"expect") == []
    assert body in rig.instance.bodies[0]


async def test_tunnels_and_websockets_are_refused_and_offers_of_h2c_are_not_taken(rig):
    websocket = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: x",
        "Sec-WebSocket-Version: 13",
    ]
    assert problem(await rig.ask("GET", f"{PATH}/x", b"", *websocket)) == (501, "not-implemented")
    assert problem(await rig.ask("CONNECT", f"{PATH}/x")) == (501, "not-implemented")
    assert (await rig.ask("CONNECT", "workers:80")).status == 400
    assert rig.instance.heads == []
    answer = await rig.ask("GET", f"{PATH}/x", b"", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
    assert answer.status == 200


async def test_the_rules_of_every_route_hold(rig):
    for headers, expected in (
        (["Origin: https://evil.example"], (403, "foreign-origin")),
        (["Sec-Fetch-Site: cross-site"], (403, "foreign-origin")),
        (["Content-Length: 1", "Transfer-Encoding: chunked"], (400, "malformed-request")),
        (["Content-Length: 1", "Content-Length: 2"], (400, "malformed-request")),
        (["Transfer-Encoding: gzip, chunked"], (501, "not-implemented")),
        (["Expect: wonders"], (417, "expectation-failed")),
        (["X: " + "x" * 40_000], (431, "headers-too-large")),
    ):
        assert problem(await rig.ask("POST", f"{PATH}/x", b"", *headers)) == expected
    assert problem(await rig.ask("GET", f"{PATH}/" + "x" * 9000)) == (414, "uri-too-long")
    foreign = raw("GET", f"{PATH}/x").replace(b"localhost:3001", b"evil.example")
    async with Client(await rig.connect()) as client:
        await client.send(foreign)
        assert problem(await client.answer()) == (421, "misdirected-request")
    assert rig.instance.heads == []


async def test_a_client_of_http_1_0_is_answered_to_the_connections_end(rig):
    rig.instance.answer = answered("Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n")
    found = await raw_answer(rig, f"GET {PATH}/x HTTP/1.0\r\n\r\n".encode())
    assert found.endswith(b"\r\n\r\nok")
    assert b"transfer-encoding" not in found.lower()


async def test_the_deadline_is_shortened_and_never_lengthened(rig):
    for given, most in (("60000", 3000), ("500", 500), ("3000", 3000)):
        await rig.ask("GET", f"{PATH}/x", b"", f"X-Timeout-Ms: {given}")
        (left,) = rig.instance.values(b"x-timeout-ms")
        assert most - 450 < int(left) <= most


# What comes back.


async def test_end_to_end_headers_come_back_in_their_order_and_those_of_the_hop_do_not(rig):
    rig.instance.answer = answered(
        "Connection: keep-alive, X-Named", "X-Named: 1", "Keep-Alive: timeout=5", "Proxy-Authenticate: Basic",
        "Trailer: X-Sum", "TE: trailers", "Upgrade: h2c", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2, c",
        "Location: http://10.0.0.9:8001/elsewhere", "Date: Mon, 01 Jan 2001 00:00:00 GMT", "Server: theirs",
        "X-Request-ID: theirs", "X-Service-Id: theirs", "X-Latin: \xe4\xff", "Vary: Accept", 'ETag: "x"',
        "Via: 1.1 cache", "Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true",
        "Content-Length: 2", status="302 Moved Around",
    )  # fmt: skip
    status, lines, body = await lines_of_answer(rig)
    assert (status, body) == (b"HTTP/1.1 302 Found", b"ok")
    names = [name for name, _ in lines]
    hop = b"x-named keep-alive proxy-authenticate trailer te upgrade access-control-allow-origin"
    assert not set(hop.split()) & set(names)
    assert [value for name, value in lines if name == b"set-cookie"] == [b"a=1; Path=/", b"b=2, c"]
    assert only(lines, b"location") == b"http://10.0.0.9:8001/elsewhere"
    assert only(lines, b"server") == b"theirs"
    assert only(lines, b"x-latin") == "\xe4\xff".encode("latin-1")
    assert only(lines, b"x-service-id") == b"w1"
    assert only(lines, b"via") == b"1.1 cache"
    assert only(lines, b"content-length") == b"2"
    assert only(lines, b"x-request-id") != b"theirs"
    assert not only(lines, b"date").startswith(b"Mon, 01 Jan 2001")


BODILESS = [
    ("HEAD", "200 OK", ["Content-Length: 5"], b"5"),
    ("HEAD", "200 OK", ["Transfer-Encoding: chunked"], None),
    ("HEAD", "404 Not Found", ["Content-Length: 0"], b"0"),
    ("GET", "204 No Content", [], None),
    ("GET", "304 Not Modified", ["ETag: x"], None),
    ("GET", "304 Not Modified", ["Content-Length: 5"], b"5"),
]


@pytest.mark.parametrize(("method", "status", "headers", "length"), BODILESS)
async def test_answers_without_a_body_have_none_and_keep_the_connection(rig, method, status, headers, length):
    rig.instance.answer = answered(*headers, status=status, body=b"")
    found = await raw_answer(
        rig, raw(method, f"{PATH}/x") * 2 + raw(method, f"{PATH}/x", b"", "Connection: close")
    )
    heads = found.split(b"\r\n\r\n")
    assert heads.pop() == b""
    assert [head.split(b"\r\n")[0] for head in heads] == [f"HTTP/1.1 {status}".encode()] * 3
    for head in heads:
        lengths = [line.split()[1] for line in head.split(b"\r\n") if line.startswith(b"content-length")]
        assert lengths == ([] if length is None else [length])
        assert b"transfer-encoding" not in head


@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    ],
)
async def test_interim_answers_of_an_instance_are_read_over(rig, before):
    rig.instance.answer = before + OK
    status, lines, body = await lines_of_answer(rig)
    assert (status, body) == (b"HTTP/1.1 200 OK", b"ok")
    assert b"link" not in dict(lines)


async def test_trailers_of_an_answer_do_not_pass(rig):
    rig.instance.answer = answered(
        "Transfer-Encoding: chunked",
        "Trailer: X-Sum",
        body=b"2;e=1\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\n\r\n",
    )
    status, lines, body = await lines_of_answer(rig)
    assert status == b"HTTP/1.1 200 OK"
    assert body == b"2\r\nok\r\n0\r\n\r\n" if b"transfer-encoding" in dict(lines) else body == b"ok"
    assert b"X-Sum" not in body


async def test_an_answer_that_ends_with_its_connection_comes_whole(rig):
    rig.instance.answer, rig.instance.closes = answered(body=b"x" * 100_000), True
    answer = await rig.ask("GET", f"{PATH}/x")
    assert (answer.body, answer.is_complete) == (b"x" * 100_000, True)


NO_ANSWERS = {
    "both framings": answered(
        "Content-Length: 2", "Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"
    ),
    "both framings, otherwise": answered(
        "Transfer-Encoding: chunked", "Content-Length: 2", body=b"0\r\n\r\n"
    ),
    "two lengths": answered("Content-Length: 2", "Content-Length: 3"),
    "a length that is none": answered("Content-Length: +2"),
    "a coding that nobody knows": answered("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "another protocol": answered(
        "Upgrade: x", "Connection: Upgrade", status="101 Switching Protocols", body=b""
    ),
    "a head without end": answered("X: " + "x" * 300_000),
    "hints without end": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 5000,
    "a folded line": answered("X: a\r\n b", "Content-Length: 2"),
    "NUL": answered("X: a\0b", "Content-Length: 2"),
    "another version": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
async def test_what_is_no_answer_is_a_502_and_nothing_of_it_passes(rig, kind):
    rig.instance.answer, rig.instance.closes = NO_ANSWERS[kind], True
    answer = await rig.ask("POST", f"{PATH}/x", b"1")
    assert problem(answer) == (502, "upstream-unreachable")
    assert answer.headers["x-service-id"] == "w1"
    assert len(rig.instance.heads) == 1
    rig.instance.answer, rig.instance.closes = OK, False
    assert (await rig.ask("GET", f"{PATH}/x")).body == b"ok"


async def test_what_comes_behind_an_answer_is_nobodys(rig):
    rig.instance.answer = OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"
    for _ in range(3):
        assert (await rig.ask("GET", f"{PATH}/x")).body == b"ok"


# HTTP/2.


async def test_http_2_goes_through_as_http_1_does(tmp_path, authority, pem):
    with trio.fail_after(PATIENCE):
        async with open_scripted() as instance, open_rig(tmp_path, tls_certificate=pem) as rig:
            await rig.register("w1", instance.port)
            stream = await connect(rig, authority, ["h2"])
            client = H2Client(stream)
            headers, body = await client.answer(await client.ask(f"{PATH}/a%2Fb//*?c=%20"))
            assert (headers[":status"], headers["x-service-id"], body) == ("200", "w1", b"ok")
            assert instance.heads[0].startswith(b"GET /a%2Fb//*?c=%20 HTTP/1.1\r\n")
            (forwarded,) = instance.values(b"forwarded")
            assert forwarded == b'for=127.0.0.1;host="localhost";proto=https'
            assert instance.values(b"host") == [b"127.0.0.1:%d" % instance.port]
            _, body = await client.answer(await client.ask(f"{PATH}/x", method="POST", body=b"x" * 16_000))
            assert body == b"ok"
            assert instance.bodies[1].count(b"x") == 16_000
            headers, body = await client.answer(await client.ask(f"{PATH}/x", method="HEAD"))
            assert (headers[":status"], headers["content-length"], body) == ("200", "2", b"")
            instance.answer = answered(
                "Transfer-Encoding: chunked", "Connection: x", "X: 1", body=b"2\r\nok\r\n0\r\n\r\n"
            )
            headers, body = await client.answer(await client.ask(f"{PATH}/x"))
            assert body == b"ok"
            assert not {"transfer-encoding", "connection", "x"} & set(headers)
            await trio.aclose_forcefully(stream)
