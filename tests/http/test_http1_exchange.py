"""What an application receives and sends in one exchange, and when that lets others have their turn."""

import sys

import pytest
import trio
import trio.testing
from quart import Response, request
from quart_trio import QuartTrio
from trio.testing import assert_checkpoints, assert_no_checkpoints

from econeura_daemon.api.requests import InTaskConnection
from econeura_daemon.core.clock import SystemClock
from econeura_daemon.server.connection import Drain
from econeura_daemon.server.framing import MAX_PIECE, Framer
from econeura_daemon.server.http1_exchange import Exchange
from econeura_daemon.server.http1_heads import parse_head
from econeura_daemon.server.http1_response import DateLine
from tests.http.server_rig import Client, serving
from tests.http.server_rig import request as written

HEAD = parse_head(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3")
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}


class Kept:
    """A channel that keeps what is sent."""

    def __init__(self):
        self.sent = b""

    async def send(self, data):
        self.sent += data


def exchange(body=None):
    return Exchange(HEAD, Framer(), Kept(), DateLine(SystemClock()), Drain(), body=body)


async def test_a_body_that_is_all_here_is_received_at_once_and_once():
    asked = exchange(b"abc")
    with assert_no_checkpoints():
        assert await asked.receive() == {"type": "http.request", "body": b"abc", "more_body": False}
    with trio.move_on_after(0.01) as waiting:
        await asked.receive()
    assert waiting.cancelled_caught


async def test_the_end_of_a_complete_answer_costs_no_turn_but_whoever_goes_on_sending_gives_others_theirs():
    asked = exchange(b"abc")
    with assert_no_checkpoints():
        await asked.send(START)
        await asked.send({"type": "http.response.body", "body": b"ok", "more_body": True})
        await asked.send({"type": "http.response.body", "body": b"", "more_body": False})
    for more in (False, True, False):
        with assert_checkpoints():
            await asked.send({"type": "http.response.body", "body": b"more", "more_body": more})


def quart_app():
    app = QuartTrio(__name__)
    app.asgi_http_class = InTaskConnection

    @app.post("/whole")
    async def whole():
        assert await request.get_data() == await request.body
        return Response(await request.get_data(), status=202)

    @app.post("/pieces")
    async def pieces():
        return Response(b"|".join([piece async for piece in request.body]))

    @app.get("/part")
    async def part():
        response = Response(b"0123456789")
        await response.make_conditional(request, accept_ranges=True, complete_length=10)
        return response

    @app.get("/large")
    async def large():
        return Response(b"x" * 3_000_000)

    @app.get("/stream")
    async def stream():
        async def generate():
            yield b"a"
            yield b"b"

        return Response(generate())

    return app


CHUNKED = b"POST /whole HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
UNASKED = written("/whole", body=b"abc", headers="Expect: 100-continue\r\n")
ASKED = {
    "whole": (written("/whole", body=b"abc"), 202, b"abc"),
    "empty": (written("/whole", body=b""), 202, b""),
    "chunked": (CHUNKED, 202, b"abc"),
    "sent before the 100 that was to be awaited": (UNASKED, 202, b"abc"),
    "iterated": (written("/pieces", body=b"abc"), 200, b"abc"),
    "too much for Quart": (written("/whole", body=b"x" * 2000), 413, None),
    "range": (written("/part", headers="Range: bytes=2-4\r\n"), 206, b"234"),
    "no range": (written("/part"), 200, b"0123456789"),
    "large answer": (written("/large"), 200, b"x" * 3_000_000),
    "streamed answer": (written("/stream"), 200, b"ab"),
}


@pytest.mark.parametrize(("raw", "status", "body"), ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("pipelined", [1, 3])
async def test_quart_reads_and_answers_in_the_connections_task(raw, status, body, pipelined):
    app = quart_app()
    app.config["MAX_CONTENT_LENGTH"] = 1000
    async with serving(app) as rig, Client(await rig.connect()) as client:
        for _ in range(2):
            await client.send(raw * pipelined)
            for _ in range(pipelined):
                answer = await client.answer()
                assert answer.status == status
                assert body is None or answer.body == body
                assert answer.is_complete


async def test_the_head_of_an_answer_comes_without_its_body_and_the_connection_is_kept():
    async with serving(quart_app()) as rig, Client(await rig.connect()) as client:
        for path, length in (("/part", "10"), ("/large", "3000000")):
            await client.send(written(path, method="HEAD"))
            answer = await client.answer(method="HEAD")
            assert (answer.status, answer.headers["content-length"], answer.body) == (200, length, b"")


async def test_no_more_than_one_read_is_handed_over_uncounted_however_long_a_request_waits():
    release, seen = trio.Event(), {}

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await release.wait()
        message = await receive()
        seen[scope["path"]] = (scope["econeura.is_whole"], len(message["body"]))
        while message["more_body"]:
            message = await receive()
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})

    async with (
        serving(app, scope_of=lambda *_: None) as rig,
        trio.open_nursery() as nursery,
    ):
        for size in (3, 100_000, 1_000_000):
            nursery.start_soon(rig.ask, written(f"/{size}", body=bytes(size)))
        await trio.testing.wait_all_tasks_blocked(0.05)
        release.set()
    assert seen["/3"] == (True, 3)
    for large in ("/100000", "/1000000"):
        is_whole, first = seen[large]
        assert not is_whole
        assert first <= MAX_PIECE


async def test_a_body_is_not_kept_while_its_answer_waits_for_a_reader():
    body = bytes(1000)
    ours = sys.getrefcount(body)
    asked = exchange(body)
    await asked.receive()
    assert sys.getrefcount(body) == ours
