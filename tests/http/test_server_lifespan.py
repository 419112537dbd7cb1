"""The application's start and end, and what becomes of a server when things around a request fail."""

import errno
import logging
import os
import resource
import socket
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import pytest
import trio

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server import LifespanError, TokenFile, open_listeners, open_server
from econeura_daemon.telemetry.metrics import Metrics
from tests.http.server_rig import PATIENCE, App, Client, answer, needs, request, serving


class Lived:
    """An application whose lifespan goes as it is told."""

    def __init__(self, live):
        self.live = live

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self.live(scope, receive, send)
        else:
            await answer(send, repr(scope["state"]).encode())


async def test_an_application_without_lifespan_is_served():
    async def live(scope, receive, send):
        raise NotImplementedError(scope["type"])

    async with serving(Lived(live)) as rig:
        assert (await rig.ask(request())).body == b"{}"


async def test_the_lifespan_state_reaches_requests():
    async def live(scope, receive, send):
        await receive()
        scope["state"]["store"] = 7
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async with serving(Lived(live)) as rig:
        assert (await rig.ask(request())).body == b"{'store': 7}"


@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_a_lifespan_that_fails_is_said(phase):
    async def live(scope, receive, send):
        while True:
            asked = (await receive())["type"]
            failed = asked.endswith(phase)
            await send({"type": f"{asked}.{'failed' if failed else 'complete'}", "message": "no disk"})

    with pytest.RaisesGroup(pytest.RaisesExc(LifespanError, match=f"{phase} failed: no disk")):
        async with serving(Lived(live)) as rig:
            assert (await rig.ask(request())).status == 200


async def test_a_lifespan_that_does_not_answer_is_waited_for_in_bounds(autojump_clock):
    async def live(scope, receive, send):
        await trio.sleep_forever()

    begun = trio.current_time()
    with pytest.RaisesGroup(pytest.RaisesExc(LifespanError, match="startup within 30 s")):
        async with serving(Lived(live)):
            pass
    assert trio.current_time() - begun == 30


async def test_a_lifespan_that_dies_while_serving_ends_the_server():
    """What Quart runs in its nursery is a part of the application: its crash is not to go unnoticed."""
    die = trio.Event()

    async def live(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await die.wait()
        raise ValueError("a background task's bug")

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError), flatten_subgroups=True):
        async with serving(Lived(live)) as rig:
            assert (await rig.ask(request())).status == 200
            die.set()
            with trio.fail_after(PATIENCE):
                await trio.sleep_forever()


@asynccontextmanager
async def serving_by(connection):
    """Serve with another connection class: the seam."""
    http = HttpSettings(bind=("127.0.0.1:0",))
    (listener,) = open_listeners(http, {}, has_tokens=False)
    async with open_server(
        App(),
        [listener],
        http,
        clock=SystemClock(),
        rng=Random(1),
        tokens=TokenFile(Path("/nonexistent")),
        auth_required=False,
        scope_of=needs,
        telemetry=Metrics(),
        drain_timeout_ms=100,
        connection=connection,
    ) as server:
        port = listener.socket.getsockname()[1]

        async def connect():
            return await trio.open_tcp_stream("127.0.0.1", port)

        yield server, connect


FAILURES = [
    ValueError("a bug"),
    OSError(errno.EPIPE, "gone"),
    trio.BusyResourceError(),
    ExceptionGroup("many", [ValueError("one"), ExceptionGroup("more", [OSError("two"), KeyError("three")])]),
]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
async def test_whatever_a_connection_raises_reaches_no_other(failure, caplog):
    async def connection(sock, peer, site):
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        if await stream.receive_some(1) == b"!":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                raise failure
        await stream.send_all(peer.name.encode())

    with trio.fail_after(PATIENCE):
        async with serving_by(connection) as (server, connect), await connect() as healthy:
            async with await connect() as client:
                await client.send_all(b"!")
                assert await client.receive_some(1) == b""
            assert server.connections == 1
            await healthy.send_all(b".")
            assert (await healthy.receive_some(100)).startswith(b"127.0.0.1:")
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == (0 if isinstance(failure, OSError) else 1)


@contextmanager
def no_descriptors_left():
    """Let this process open nothing more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_running_out_of_descriptors_is_waited_out(caplog):
    async with serving() as rig:
        with socket.create_connection(("127.0.0.1", rig.port)) as client, no_descriptors_left():
            client.sendall(request("/blind"))  # nothing awaits until here: it waits in the kernel's queue
            with trio.fail_after(PATIENCE):
                while "cannot accept connections: Too many open files" not in caplog.text:
                    await trio.lowlevel.checkpoint()
            assert rig.server.connections == 0
        assert (await rig.ask(request("/blind"))).status == 200


async def test_an_application_that_sends_nonsense_harms_itself_only(caplog):
    async def nonsense(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if scope["path"] == "/bad-header":
            await answer(send, headers=[(b"a\r\nb", b"c")])
        elif scope["path"] == "/too-long":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
            await send({"type": "http.response.body", "body": b"abc"})
        elif scope["path"] == "/too-short":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            await send({"type": "http.response.body", "body": b"abc"})
        elif scope["path"] == "/twice":
            await answer(send)
            await answer(send)
        elif scope["path"] == "/unknown":
            await send({"type": "http.nothing"})
        else:
            await answer(send)

    async with serving(nonsense) as rig:
        for path in ("/bad-header", "/too-long", "/too-short", "/unknown"):
            async with Client(await rig.connect()) as client:
                await client.send(request(path))
                try:
                    found = await client.answer(until_closed=True)
                except ConnectionError:
                    continue
                assert found.status == 500 or not found.is_complete, path
        async with Client(await rig.connect()) as client:
            await client.send(request("/twice") + request("/fine"))
            assert [(await client.answer()).body for _ in range(2)] == [b"ok", b"ok"]
