"""Heads that the rules let pass once: what is remembered of them, and what never is."""

import pytest
import trio

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.server import HotRoute, Response, Scope, TokenFile, create_token
from econeura_daemon.server.context import LOCAL, Peer
from econeura_daemon.server.http1_heads import parse_head
from econeura_daemon.server.http1_passes import AllPasses, Passes
from econeura_daemon.server.tokens import revoke_token
from tests.http.server_rig import Client, request, serving

HERE = Peer("127.0.0.1:1", is_local=True)
ELSEWHERE = Peer("192.0.2.1:1", is_local=False)


async def hot(asked):
    return Response(202, asked.context.principal.name.encode() + b" " + asked.body)


ROUTE = HotRoute(hot, "/hot")
HOT = {("POST", "/hot"): ROUTE}
GOOD = request("/hot", body=b"x")
RULES = {
    GOOD: 202,
    request("/hot", body=b"xy"): 202,
    request("/hot", body=b"x", host="evil.example"): 421,
    request("/hot", body=b"x", headers="Origin: http://evil.example\r\n"): 403,
    request("/hot", body=b"x", headers="Origin: http://localhost\r\n"): 202,
    request("/hot", body=b"x", headers="X-Forwarded-For: 192.0.2.1\r\n"): 401,
    request("/hot", body=b"x", headers="Authorization: Bearer eco_nobody\r\n"): 401,
    request("/hot?x", body=b"x"): 200,
}


async def test_what_is_asked_again_is_judged_the_same_again():
    async with serving(hot=HOT) as rig, Client(await rig.connect()) as client:
        for _ in range(3):
            for raw, status in RULES.items():
                await client.send(raw)
                assert (await client.answer()).status == status, raw
        assert rig.metrics.http_requests.value("POST", "/hot", "202") == 9
        assert rig.metrics.http_request_seconds.count("/hot") == 9
        assert rig.metrics.http_requests_in_flight.value() == 0


async def test_each_answer_to_a_remembered_head_has_an_id_of_its_own():
    async with serving(hot=HOT) as rig, Client(await rig.connect()) as client:
        ids = set()
        for _ in range(5):
            await client.send(GOOD)
            ids.add((await client.answer()).headers["x-request-id"])
    assert len(ids) == 5


async def test_a_token_that_is_revoked_counts_no_more_in_the_same_words_on_the_same_connection(tmp_path):
    token, secret = create_token(tmp_path, "sender", {Scope.PUBLISH}, SystemClock())
    raw = request("/hot", body=b"x", headers=f"Authorization: Bearer {secret}\r\n")
    async with (
        serving(hot=HOT, tokens=TokenFile(tmp_path)) as rig,
        Client(await rig.connect()) as client,
    ):
        for _ in range(3):
            await client.send(raw)
            answer = await client.answer()
            assert (answer.status, answer.body) == (202, b"sender x")
        await client.send(GOOD)
        assert (await client.answer()).body == b"local x"
        revoke_token(tmp_path, token.id)
        await client.send(raw)
        assert (await client.answer()).status == 401


@pytest.mark.parametrize("length", ["", "Content-Length: 4\r\n", "Content-Length: 0\r\n"])
async def test_a_remembered_head_is_answered_when_all_of_the_request_is_there_and_not_before(length):
    body = b"\r\n\r\n" if "4" in length else b""
    raw = request("/hot", method="POST", headers=length) + body
    async with serving(hot=HOT) as rig, Client(await rig.connect()) as client:
        await client.send(raw)
        expected = (await client.answer()).body
        for cut in range(1, len(raw)):
            await client.send(raw[:cut])
            with trio.move_on_after(0.005):
                raise AssertionError(cut, await client.stream.receive_some())
            await client.send(raw[cut:])
            assert (await client.answer()).body == expected
        await client.send(raw + raw + b"\r\n" + raw)
        for _ in range(3):
            assert (await client.answer()).body == expected


def test_only_one_whole_request_is_found():
    text = b"POST /hot HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2"
    passes = Passes()
    passes.add(parse_head(text), ROUTE, LOCAL)
    found, body = passes.find(text + b"\r\n\r\nab")
    assert (found.head, found.route, found.principal, body) == (parse_head(text), ROUTE, LOCAL, b"ab")
    for data in (b"", b"a", b"abc", b"ab" + text):
        assert passes.find(text + b"\r\n\r\n" + data) is None
    for data in (
        text,
        text + b"\r\n",
        text + b"\r\n\r",
        b"\r\n" + text + b"\r\n\r\nab",
        b"\r\n\r\n" + text,
        b"",
    ):
        assert passes.find(data) is None


@pytest.mark.parametrize(
    "line", [b"Authorization: Bearer x", b"Cookie: a=b", b"X-Request-ID: 1", b"Pad: " + b"x" * 2000]
)
def test_secrets_ids_and_long_heads_are_never_remembered(line):
    text = b"POST /hot HTTP/1.1\r\nHost: localhost\r\n" + line
    passes = Passes()
    passes.add(parse_head(text), ROUTE, LOCAL)
    assert passes.find(text + b"\r\n\r\n") is None


def test_peers_of_another_kind_and_those_who_connected_to_another_address_are_judged_for_themselves():
    passes = AllPasses()
    own = passes.of(HERE, "127.0.0.1")
    assert passes.of(Peer("127.0.0.1:2", is_local=True), "127.0.0.1") is own
    assert passes.of(ELSEWHERE, "127.0.0.1") is not own
    assert passes.of(HERE, "127.0.0.2") is not own
    assert passes.of(Peer("unix", is_local=True, is_unix=True), None) is not own


def test_what_is_remembered_stays_small():
    passes = Passes()
    for length in range(5000):
        text = b"POST /hot HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d" % length
        passes.add(parse_head(text), ROUTE, LOCAL)
        assert passes.find(text + b"\r\n\r\n" + b"x" * length) is not None
        assert len(passes) <= 256
    everybody = AllPasses()
    for number in range(1000):
        everybody.of(HERE, f"127.0.{number // 256}.{number % 256}")
    assert len(everybody) <= 16
