"""What Hypercorn 0.18 does to its user, and that it does not reach ours.

Each fact is shown twice: on Hypercorn's own server, so that we notice when a release changes it and our
guard can go, and on our server with the same client. The attacks are plain bytes; where it matters the
application is Quart's, as in the daemon.
"""

import contextlib
import inspect
import logging
from contextlib import asynccontextmanager
from importlib.metadata import version

import pytest
import trio
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio import serve
from quart import request as quart_request
from quart_trio import QuartTrio

from tests.http.server_rig import PATIENCE, App, Client, request, serving

WEBSOCKET_OFFER = (
    b"GET /none HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
H2C_OFFER = request(
    headers=(
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    )
)


def quart_app():
    app = QuartTrio("facts")
    app.config["MAX_CONTENT_LENGTH"] = 1000
    app.config["BODY_TIMEOUT"] = 0.3
    app.logger.setLevel(logging.CRITICAL)

    @app.post("/echo")
    async def echo():
        return await quart_request.get_data()

    @app.get("/stream")
    async def stream():
        async def ticks():
            while True:
                yield b": tick\n"
                await trio.sleep(0.05)

        return ticks(), 200, {"Content-Type": "text/event-stream"}

    return app


class Stock:
    """Hypercorn's own server, as its documentation says to run it."""

    def __init__(self, port, stop, ended):
        self.port = port
        self.stop = stop
        self.ended = ended
        self.errors = []

    async def connect(self):
        return Client(await trio.open_tcp_stream("127.0.0.1", self.port))


@asynccontextmanager
async def stock(app, **config):
    settings = Config()
    settings.bind = ["127.0.0.1:0"]
    settings.errorlog = None
    for name, value in config.items():
        setattr(settings, name, value)
    running = Stock(None, trio.Event(), trio.Event())

    async def run(task_status):
        try:
            await serve(app, settings, shutdown_trigger=running.stop.wait, task_status=task_status)
        except* Exception as errors:  # noqa: BLE001 - they are what the test is about
            running.errors = list(leaves(errors))
        finally:
            running.ended.set()

    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(run)
        running.port = int(url.rpartition(":")[2])
        with trio.fail_after(PATIENCE):
            yield running
        nursery.cancel_scope.cancel()


def leaves(group):
    for error in group.exceptions:
        yield from leaves(error) if isinstance(error, BaseExceptionGroup) else (error,)


async def offer_websocket(connect):
    async with await connect() as client:
        await client.send(WEBSOCKET_OFFER + b"x")
        await client.stream.receive_some(1000)


async def half_close_in_a_huge_body(connect):
    for _ in range(20):
        async with await connect() as client:
            await client.send(
                request("/echo", method="POST", headers="Content-Length: 99999999999\r\n") + b"x"
            )
            await client.stream.send_eof()
            await client.stream.receive_some(1000)


CRASHES = [(offer_websocket, "LocalProtocolError"), (half_close_in_a_huge_body, "BusyResourceError")]


@pytest.mark.parametrize(("attack", "error"), CRASHES)
async def test_hypercorn_dies_of_one_client(attack, error):
    async with stock(quart_app()) as server:
        with contextlib.suppress(OSError, trio.BrokenResourceError):  # the server dies under us
            await attack(server.connect)
        await server.ended.wait()
    assert {type(found).__name__ for found in server.errors} == {error}


@pytest.mark.parametrize(("attack", "error"), CRASHES)
async def test_ours_does_not_notice(attack, error, caplog):
    async with serving(quart_app()) as rig:

        async def connect():
            return Client(await rig.connect())

        with trio.fail_after(PATIENCE):
            async with Client(await rig.connect()) as healthy:
                await attack(connect)
                await healthy.send(request(body=b"well"))
                assert (await healthy.answer()).body == b"well"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_hypercorn_does_not_end_while_a_client_does_not_read():
    async with stock(App(), graceful_timeout=0.1) as server, await server.connect() as client:
        await client.send(request("/large"))
        await client.stream.receive_some(1)
        server.stop.set()
        with trio.move_on_after(2):
            await server.ended.wait()
        assert not server.ended.is_set()


@pytest.mark.parametrize("path", ["/large", "/flood"])
@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_ours_ends_in_time_while_a_client_does_not_read(path, family, tmp_path):
    unix = tmp_path / "socket" if family == "unix" else None
    with trio.fail_after(PATIENCE):
        async with serving(unix=unix, drain_timeout_ms=100) as rig:
            client = Client(await rig.connect())
            await client.send(request(path))
            await client.stream.receive_some(1)
        await client.stream.aclose()


@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_a_client_that_takes_no_byte_for_the_send_timeout_is_closed(family, tmp_path):
    unix = tmp_path / "socket" if family == "unix" else None
    async with serving(unix=unix, send_timeout_ms=200) as rig, Client(await rig.connect()) as client:
        await client.send(request("/flood"))
        with trio.fail_after(PATIENCE):
            await rig.app.cancelled.wait()


async def test_a_reader_that_is_slow_but_takes_some_bytes_is_not_closed():
    async with serving(send_timeout_ms=300) as rig, Client(await rig.connect()) as client:
        await client.send(request("/large"))
        end = trio.current_time() + 1.5
        with trio.fail_after(PATIENCE):
            while trio.current_time() < end:
                assert await client.stream.receive_some(1_000_000)
                await trio.sleep(0.1)


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (413, request("/echo", body=b"x" * 5000)),
        (408, request("/echo", body=b"x" * 500)[:-1]),
    ],
)
async def test_hypercorn_keeps_the_connection_after_408_and_413_and_ours_closes_it(status, raw):
    more = b"x" if status == 408 else b""
    async with stock(quart_app()) as server, await server.connect() as client:
        await client.send(raw)
        assert (await client.answer()).status == status
        await client.send(more + request("/none"))
        assert (await client.answer()).status == 404
    app = quart_app()
    app.config["MAX_CONTENT_LENGTH"] = app.config["BODY_TIMEOUT"] = None
    async with serving(app, max_body_bytes=1024, body_timeout_ms=300) as rig:
        answer = await rig.ask(raw, until_closed=True)
        assert answer.status == status
        assert answer.headers["connection"] == "close"


async def test_hypercorn_cuts_streams_by_its_read_timeout_and_ours_has_no_such_timeout():
    async with stock(quart_app(), read_timeout=0.3) as server, await server.connect() as client:
        await client.send(request("/stream"))
        assert not (await client.answer()).is_complete
    short = dict.fromkeys(
        ("head_timeout_ms", "body_timeout_ms", "keep_alive_timeout_ms", "send_timeout_ms"), 300
    )
    async with serving(quart_app(), **short) as rig, Client(await rig.connect()) as client:
        await client.send(request("/stream"))
        begun = trio.current_time()
        with trio.fail_after(PATIENCE):
            while trio.current_time() < begun + 1.2:
                assert await client.stream.receive_some(1000)


@pytest.mark.parametrize("raw", [H2C_OFFER, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"])
async def test_hypercorn_speaks_cleartext_http2_unasked(raw):
    async with stock(App()) as server, await server.connect() as client:
        await client.send(raw)
        first = await client.stream.receive_some(1000)
        assert first.startswith((b"HTTP/1.1 101", b"\0\0"))


async def test_ours_answers_an_h2c_offer_in_http11_and_http2_with_505():
    async with serving() as rig:
        assert (await rig.ask(H2C_OFFER)).status == 200
        answer = await rig.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", until_closed=True)
        assert answer.status == 505


SLOPPY = {
    "length and coding": (
        b"POST /blind HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n"
    ),
    "bare line feeds": b"GET /blind HTTP/1.1\nHost: localhost\n\n",
    "a folded header": b"GET /blind HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n",
    "five thousand headers": request("/blind", headers="".join(f"a{n}: b\r\n" for n in range(5000))),
}


@pytest.mark.parametrize("raw", SLOPPY.values(), ids=SLOPPY)
async def test_hypercorn_accepts_what_invites_smuggling_and_ours_does_not(raw):
    async with stock(App()) as server, await server.connect() as client:
        await client.send(raw)
        assert (await client.answer()).status == 200
    async with serving() as rig:
        answer = await rig.ask(raw, until_closed=True)
        assert answer.status in {400, 431}
        assert rig.app.calls == []


class Unread:
    """Answers only once all of a body is there, which it does not read."""

    def __init__(self):
        self.go = trio.Event()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def send_in_pieces(client, count):
    await client.send(request(method="POST", headers=f"Content-Length: {count}\r\n"))
    for _ in range(count):
        await client.send(b"x")
        await trio.sleep(0.01)


async def test_hypercorn_deadlocks_when_many_pieces_of_a_body_stay_unread():
    app = Unread()
    async with stock(app) as server, await server.connect() as client:
        await send_in_pieces(client, 20)
        app.go.set()
        with trio.move_on_after(1.5) as waiting:
            await client.answer()
            await client.send(request())
            await client.answer()
        assert waiting.cancelled_caught


async def test_ours_answers_when_many_pieces_of_a_body_stay_unread():
    app = Unread()
    async with serving(app) as rig, Client(await rig.connect()) as client:
        await send_in_pieces(client, 50)
        app.go.set()
        assert (await client.answer()).body == b"ok"
        await client.send(request())
        assert (await client.answer()).body == b"ok"


def test_the_private_parts_of_hypercorn_that_we_stand_on_are_as_we_know_them():
    assert version("hypercorn") == "0.18.0"
    assert list(inspect.signature(H11Protocol.__init__).parameters) == [
        "self",
        "app",
        "config",
        "context",
        "task_group",
        "connection_state",
        "ssl",
        "client",
        "server",
        "send",
    ]
    source = inspect.getsource(H11Protocol)
    assert "Updated(idle=True)" in source
    assert "self.send(Closed())" in source
