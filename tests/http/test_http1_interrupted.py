"""Resets, ends and stalls at every byte of a request and of an answer, and what they leave behind: nothing."""

import socket
import struct

import pytest
import trio

from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server import HotRoute, Response
from econeura_daemon.server.rules.body import BodyBounds, BodyRefusedError, BoundedBody
from econeura_daemon.server.rules.memory import Memory, Share
from tests.http.server_rig import PATIENCE, App, Client, answer, read_body, request, serving

REQUESTS = {
    "body": request("/echo", body=b"0123456789"),
    "chunked": (
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nA: b\r\n\r\n"
    ),
    "hot": request("/hot", body=b"0123456789"),
}


async def hot(asked):
    return Response(202, asked.body, [(b"content-type", b"text/plain")])


HOT = {("POST", "/hot"): HotRoute(hot, "/hot")}


def reset(stream):
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def close(stream):
    stream.socket.close()


async def half_close(stream):
    await stream.send_eof()


async def nothing_is_left(rig, before):
    await rig.wait_for_connections(1)  # the healthy client's
    with trio.fail_after(PATIENCE):
        while trio.lowlevel.current_statistics().tasks_living > before:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


@pytest.mark.parametrize("raw", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("end", [reset, close, half_close])
async def test_an_end_at_any_byte_of_a_request_harms_nobody(raw, end):
    async with serving(hot=HOT) as rig, Client(await rig.connect()) as healthy:
        await healthy.send(request(body=b"first"))
        await healthy.answer()
        before = trio.lowlevel.current_statistics().tasks_living
        streams = []
        for offset in range(len(raw) + 1):
            stream = await rig.connect()
            streams.append(stream)
            await stream.send_all(raw[:offset])
            ended = end(stream)
            if ended is not None:
                await ended
            if offset % 8 == 0:
                await healthy.send(request(body=b"well"))
                assert (await healthy.answer()).body == b"well"
        if end is half_close:  # whole requests are answered, parts of them are not
            whole = await Client(streams[-1]).answer()
            assert whole.body == (b"abcd" if b"chunked" in raw else b"0123456789")
            with trio.fail_after(PATIENCE):
                assert await streams[len(raw) // 2].receive_some(1000) == b""
        for stream in streams:
            stream.socket.close()
        await nothing_is_left(rig, before)


@pytest.mark.parametrize("raw", REQUESTS.values(), ids=REQUESTS)
async def test_a_stall_at_any_byte_of_a_request_ends_in_time(raw):
    """In a head 408; in a body 408; before the first byte a close without a word."""
    limits = {"head_timeout_ms": 150, "body_timeout_ms": 150, "keep_alive_timeout_ms": 150}
    async with serving(hot=HOT, max_connections=1000, **limits) as rig:
        clients = []
        for offset in range(len(raw)):
            client = Client(await rig.connect())
            clients.append(client)
            await client.send(raw[:offset])
        assert (await rig.ask(request(body=b"well"))).body == b"well"
        for offset, client in enumerate(clients):
            if offset == 0:
                await client.is_closed()
            else:
                assert (await client.answer(until_closed=True)).status == 408, raw[:offset]
            await trio.aclose_forcefully(client.stream)
        await rig.wait_for_connections(0)


async def test_a_reset_at_any_byte_of_an_answer_ends_the_handler_and_harms_nobody():
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await read_body(receive)
        if scope["path"] == "/echo":
            await answer(send, b"well")
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(40):
            await send({"type": "http.response.body", "body": b"x" * 3, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as rig, Client(await rig.connect()) as healthy:
        await healthy.send(request(body=b""))
        await healthy.answer()
        before = trio.lowlevel.current_statistics().tasks_living
        for offset in range(400):
            stream = await rig.connect()
            await stream.send_all(request("/stream"))
            left = offset
            while left > 0 and (data := await stream.receive_some(left)):
                left -= len(data)
            reset(stream)
            if offset % 20 == 0:
                await healthy.send(request(body=b""))
                assert (await healthy.answer()).body == b"well"
        await nothing_is_left(rig, before)


async def test_a_reader_that_stalls_in_an_answer_is_given_up_after_the_send_timeout():
    app = App()
    async with serving(app, send_timeout_ms=200) as rig, Client(await rig.connect()) as client:
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await client.send(request("/flood"))
        with trio.fail_after(PATIENCE):
            await app.cancelled.wait()
        await rig.wait_for_connections(0)


async def test_a_stalled_reader_holds_up_its_own_handler_and_no_memory():
    """Back-pressure: what an application may send is bounded by what the client takes."""
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent += 65536

    async with (
        serving(app, drain_timeout_ms=100, send_timeout_ms=1000) as rig,
        Client(await rig.connect()) as client,
    ):
        await client.send(request("/"))
        await trio.testing.wait_all_tasks_blocked(0.3)
        assert sent < 16_000_000
        assert await client.stream.receive_some(10)


async def test_hot_requests_sent_ahead_are_answered_in_order_and_others_get_their_turn():
    order = []

    async def count(asked):
        order.append(asked.body)
        return Response(200, asked.body, [])

    async with serving(hot={("POST", "/hot"): HotRoute(count, "/hot")}) as rig:
        async with Client(await rig.connect()) as greedy, Client(await rig.connect()) as modest:
            bodies = [b"%d" % number for number in range(400)]
            await greedy.send(b"".join(request("/hot", body=body) for body in bodies))
            await modest.send(request("/hot", body=b"modest"))
            assert (await modest.answer()).body == b"modest"
            for body in bodies:
                assert (await greedy.answer()).body == body
        # It came while the first of the 400 were being answered, and did not wait for the last.
        assert order.index(b"modest") < 100
        assert [body for body in order if body != b"modest"] == bodies


async def test_hot_routes_stand_behind_the_same_rules():
    async def bug(asked):
        raise ValueError("the secret is swordfish")

    table = {("POST", "/hot"): HotRoute(hot, "/hot"), ("POST", "/bug"): HotRoute(bug, "/bug")}
    async with serving(hot=table, max_body_bytes=1024) as rig:
        for raw, status in {
            request("/hot", body=b"x"): 202,
            request("/hot", body=b"x", host="evil.example"): 421,
            request("/hot", body=b"x", headers="Origin: http://evil.example\r\n"): 403,
            request("/hot", body=b"x", headers="Forwarded: for=x\r\n"): 401,
            request("/hot", body=b"x", headers="Authorization: Bearer eco_nobody\r\n"): 401,
            request("/hot", body=b"x" * 1025): 413,
            request("/hot", method="POST", headers="Content-Length: 99999\r\n"): 413,
            request("/bug", body=b"x"): 500,
        }.items():
            found = await rig.ask(raw)
            assert found.status == status
            assert found.headers["x-request-id"]
            assert b"swordfish" not in found.body
        assert rig.metrics.http_requests.value("POST", "/hot", "202") == 1
        assert rig.metrics.http_requests.value("POST", "/bug", "500") == 1
        assert rig.metrics.http_requests_in_flight.value() == 0


async def test_a_hot_request_whose_body_comes_slowly_is_the_same_request():
    raw = request("/hot", body=b"0123456789", headers="Expect: 100-continue\r\n")
    async with serving(hot=HOT) as rig, Client(await rig.connect()) as client:
        await client.send(raw[:-10])
        with trio.fail_after(PATIENCE):
            assert await client.stream.receive_some(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for byte in raw[-10:]:
            await client.send(bytes([byte]))
        found = await client.answer()
        assert (found.status, found.body) == (202, b"0123456789")
        await client.send(request("/hot", body=b"again"))
        assert (await client.answer()).body == b"again"


async def test_one_peer_may_hold_so_many_connections_and_room_is_used_again():
    async with serving(max_connections_per_peer=2) as rig:
        async with Client(await rig.connect()) as first, Client(await rig.connect()) as second:
            for client in (first, second):
                await client.send(request("/blind"))
                assert (await client.answer()).status == 200
            refused = await rig.ask(request("/blind"), until_closed=True)
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert b"127.0.0.1" in refused.body
        await rig.wait_for_connections(0)
        assert (await rig.ask(request("/blind"))).status == 200


async def test_a_body_below_the_minimum_rate_is_408_before_its_time_is_over(autojump_clock):
    """Told to the rule itself: over sockets it would take the seconds that it says."""

    async def drip():
        await trio.sleep(1)
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    body = BoundedBody(drip, BodyBounds(10**9, 3600), Share(Memory(HttpSettings())))

    async def read_for_ever():
        while True:
            await body.receive()

    with pytest.raises(BodyRefusedError) as refused:
        await read_for_ever()
    assert refused.value.problem.status == 408
    assert 5 <= trio.current_time() <= 6
