"""Clients that break off, dawdle, or come in numbers, and what the others notice of them: nothing."""

import logging
import os
import socket
import struct
import time

import pytest
import trio

from tests.http.server_rig import PATIENCE, App, Client, request, serving

REQUESTS = {
    "plain": request("/blind"),
    "body": request("/echo", body=b"0123456789"),
    "unread body": request("/blind", body=b"0123456789"),
    "chunked": (
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    ),
    "expecting": request("/echo", body=b"0123456789", headers="Expect: 100-continue\r\n"),
    "upgrade": request("/blind", headers="Upgrade: websocket\r\nConnection: Upgrade\r\n") + b"abcdefgh",
    "failing": request("/fail", body=b"0123456789"),
    "pipelined": request("/blind") * 3,
    "waiting": request("/wait"),
    "streaming": request("/stream"),
}


def reset(stream):
    """Close so that the peer sees a reset instead of an end."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def close(stream):
    stream.socket.close()


def stay(stream):
    """Send nothing more."""


async def half_close(stream):
    await stream.send_eof()


@pytest.mark.parametrize("raw", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("end", [reset, close, half_close, stay])
async def test_breaking_off_at_any_byte_harms_nobody(raw, end, caplog):
    caplog.set_level(logging.WARNING)
    async with serving(drain_timeout_ms=200) as rig, Client(await rig.connect()) as healthy:
        streams = []
        for offset in range(0, len(raw) + 1, 3):
            stream = await rig.connect()
            streams.append(stream)
            await stream.send_all(raw[:offset])
            ended = end(stream)
            if ended is not None:
                await ended
            await healthy.send(request(body=b"well"))
            assert (await healthy.answer()).body == b"well"
        rig.app.release.set()
        await healthy.send(request(body=b"still well"))
        assert (await healthy.answer()).body == b"still well"
        for stream in streams:
            stream.socket.close()
        await rig.wait_for_connections(1)
    said = [record.getMessage() for record in caplog.records]
    assert set(said) <= {"a request failed"}, said


async def test_nothing_is_left_running_when_the_server_is_left():
    before = trio.lowlevel.current_statistics()
    async with serving(drain_timeout_ms=100) as rig:
        for raw in REQUESTS.values():
            stream = await rig.connect()
            await stream.send_all(raw)
            stream.socket.close()
    after = trio.lowlevel.current_statistics()
    assert (after.tasks_living, after.io_statistics.tasks_waiting_read) == (
        before.tasks_living,
        before.io_statistics.tasks_waiting_read,
    )


async def test_a_head_that_dribbles_in_is_408_and_the_end():
    async with serving(head_timeout_ms=300) as rig, Client(await rig.connect()) as client:
        begun = trio.current_time()

        async def dribble():
            for byte in request("/blind", headers="A: " + "b" * 1000 + "\r\n"):
                await client.send(bytes([byte]))
                await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dribble)
            answer = await client.answer()
            nursery.cancel_scope.cancel()
        assert answer.status == 408
        assert trio.current_time() - begun < 5
        assert rig.app.calls == []


async def test_a_body_that_dribbles_in_is_408_and_the_end():
    async with serving(body_timeout_ms=300) as rig, Client(await rig.connect()) as client:
        await client.send(request("/echo", method="POST", headers="Content-Length: 1000\r\n"))

        async def dribble():
            while True:
                await client.send(b"x")
                await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dribble)
            answer = await client.answer()
            nursery.cancel_scope.cancel()
        assert answer.status == 408
        assert answer.headers["connection"] == "close"


async def test_an_idle_connection_is_closed_without_a_word():
    async with serving(keep_alive_timeout_ms=100) as rig, Client(await rig.connect()) as client:
        await client.send(request("/blind"))
        await client.answer(until_closed=True)
        async with Client(await rig.connect()) as fresh:
            await fresh.is_closed()


async def test_a_request_that_came_in_time_is_answered_though_the_machine_was_late():
    async with serving(keep_alive_timeout_ms=300) as rig, Client(await rig.connect()) as client:
        for _ in range(8):
            await client.send(request("/blind"))
            assert (await client.answer()).body == b"ok"
            os.write(client.stream.socket.fileno(), request("/blind"))
            time.sleep(0.5)  # noqa: ASYNC251 - nothing of this process runs meanwhile
            assert (await client.answer()).body == b"ok"


async def test_keep_alive_does_not_cut_a_request_that_takes_longer():
    async with (
        serving(keep_alive_timeout_ms=100, head_timeout_ms=100) as rig,
        Client(await rig.connect()) as client,
    ):
        await client.send(request("/wait"))
        await trio.sleep(0.4)
        rig.app.release.set()
        assert (await client.answer()).body == b"waited"


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_client_in_the_middle_of_a_large_body_gets_to_read_its_413(framing):
    async with serving(max_body_bytes=10_000) as rig, Client(await rig.connect()) as client:
        if framing == "length":
            await client.send(request("/echo", method="POST", headers="Content-Length: 8000000\r\n"))
            piece = b"x" * 8000
        else:
            await client.send(request("/echo", method="POST", headers="Transfer-Encoding: chunked\r\n"))
            piece = b"1f40\r\n" + b"x" * 8000 + b"\r\n"
        for _ in range(1000):
            await client.send(piece)
        answer = await client.answer()
        assert answer.status == 413
        assert b"payload-too-large" in answer.body


async def test_a_body_that_nobody_reads_is_not_taken_in():
    async with (
        serving(max_body_bytes=1024**3, drain_timeout_ms=100) as rig,
        Client(await rig.connect()) as client,
    ):
        await client.send(request("/wait", method="POST", headers="Content-Length: 1000000000\r\n"))
        sent = 0
        with trio.move_on_after(1):
            while True:
                await client.send(b"x" * 65536)
                sent += 65536
        assert sent < 32_000_000


async def test_a_body_that_breaks_the_rules_is_400_and_its_application_is_cancelled():
    async with serving() as rig, Client(await rig.connect()) as client:
        await client.send(request("/echo", method="POST", headers="Transfer-Encoding: chunked\r\n"))
        with trio.fail_after(PATIENCE):
            await rig.app.entered.wait()
        await client.send(b"nonsense\r\n")
        assert (await client.answer(until_closed=True)).status == 400
        await rig.wait_for_connections(0)
        assert rig.app.cancelled.is_set()


async def test_a_body_that_breaks_the_rules_after_the_answer_began_is_cut_off():
    async with serving() as rig, Client(await rig.connect()) as client:
        await client.send(request("/converse", method="POST", headers="Transfer-Encoding: chunked\r\n"))
        with trio.fail_after(PATIENCE):
            await client.stream.receive_some(1)
        await client.send(b"nonsense\r\n")
        assert b"HTTP/1.1" not in await client.stream.receive_some(65536)
        await rig.wait_for_connections(0)
        assert rig.app.cancelled.is_set()


async def test_a_body_that_breaks_the_rules_and_that_nobody_reads_ends_the_connection():
    async with serving() as rig, Client(await rig.connect()) as client:
        await client.send(request("/wait", method="POST", headers="Transfer-Encoding: chunked\r\n"))
        with trio.fail_after(PATIENCE):
            await rig.app.entered.wait()
        await client.send(b"nonsense\r\n" + request("/blind"))
        rig.app.release.set()
        assert (await client.answer(until_closed=True)).body == b"waited"
        await rig.wait_for_connections(0)
        assert rig.app.calls == ["/wait"]


async def test_pipelined_requests_are_not_taken_in_without_end():
    async with serving(drain_timeout_ms=100) as rig, Client(await rig.connect()) as client:
        await client.send(request("/wait"))
        sent = 0
        with trio.move_on_after(1):
            while True:
                await client.send(request("/blind") * 1000)
                sent += len(request("/blind") * 1000)
        assert sent < 32_000_000


async def test_connections_beyond_the_limit_are_503_and_room_is_used_again():
    async with serving(max_connections=2) as rig:
        async with Client(await rig.connect()) as first, Client(await rig.connect()) as second:
            for client in (first, second):
                await client.send(request("/blind"))
                assert (await client.answer()).status == 200
            for _ in range(3):
                answer = await rig.ask(request("/blind"), until_closed=True)
                assert answer.status == 503
                assert answer.headers["retry-after"] == "1"
                assert answer.headers["x-request-id"]
        await rig.wait_for_connections(0)
        assert (await rig.ask(request("/blind"))).status == 200


async def test_requests_beyond_twice_the_concurrency_are_503_and_the_waiting_are_served_in_turn():
    app = App()
    async with serving(app, max_concurrent_requests=2) as rig:
        clients = []
        for _ in range(4):
            client = Client(await rig.connect())
            clients.append(client)
            await client.send(request("/wait"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert app.calls == ["/wait"] * 2
        answer = await rig.ask(request("/blind"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert b"/problems/overloaded" in answer.body
        assert (await rig.ask(request("/livez"))).status == 200
        app.release.set()
        for client in clients:
            assert (await client.answer()).body == b"waited"
            await client.stream.aclose()
        assert (await rig.ask(request("/blind"))).status == 200


async def test_long_lived_answers_hold_no_slot():
    async with (
        serving(max_concurrent_requests=1) as rig,
        Client(await rig.connect()) as streaming,
        Client(await rig.connect()) as polling,
    ):
        await streaming.send(request("/stream"))
        with trio.fail_after(PATIENCE):
            assert await streaming.stream.receive_some(1000)
        await polling.send(request("/poll"))
        for _ in range(5):
            assert (await rig.ask(request("/blind"))).status == 200
        rig.app.release.set()
        assert (await polling.answer()).body == b"polled"


async def test_a_waiting_request_whose_client_left_gives_up_its_place():
    app = App()
    async with serving(app, max_concurrent_requests=1) as rig:
        async with Client(await rig.connect()) as holder:
            await holder.send(request("/wait"))
            with trio.fail_after(PATIENCE):
                await app.entered.wait()
            waiting = await rig.connect()
            await waiting.send_all(request("/wait"))
            await trio.testing.wait_all_tasks_blocked(0.05)
            reset(waiting)
            await trio.testing.wait_all_tasks_blocked(0.05)
            async with Client(await rig.connect()) as next_one:
                await next_one.send(request("/blind"))
                await trio.testing.wait_all_tasks_blocked(0.05)
                app.release.set()
                assert (await next_one.answer()).status == 200
        assert app.calls == ["/wait", "/blind"]
