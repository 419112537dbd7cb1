"""What an application receives and sends in one exchange, and when that lets others have their turn."""

import pytest
import trio
from quart import Response, request
from quart_trio import QuartTrio
from trio.testing import assert_checkpoints, assert_no_checkpoints

from econeura_daemon.api.requests import InTaskConnection
from econeura_daemon.core.clock import SystemClock
from econeura_daemon.server.connection import Drain
from econeura_daemon.server.framing import Framer
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


SLOW = b"POST /whole HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
ASKED = [
    (written("/whole", body=b"abc"), 202, b"abc"),
    (written("/whole", body=b""), 202, b""),
    (SLOW, 202, b"abc"),
    (written("/pieces", body=b"abc"), 200, b"abc"),
    (written("/whole", body=b"x" * 2000), 413, None),
    (written("/part", headers="Range: bytes=2-4\r\n"), 206, b"234"),
    (written("/part"), 200, b"0123456789"),
    (written("/large"), 200, b"x" * 3_000_000),
    (written("/stream"), 200, b"ab"),
]


@pytest.mark.parametrize(("raw", "status", "body"), ASKED)
async def test_quart_reads_and_answers_in_the_connections_task(raw, status, body):
    app = quart_app()
    app.config["MAX_CONTENT_LENGTH"] = 1000
    async with serving(app) as rig, Client(await rig.connect()) as client:
        for _ in range(2):
            await client.send(raw)
            answer = await client.answer()
            assert answer.status == status
            assert body is None or answer.body == body
        assert answer.is_complete
