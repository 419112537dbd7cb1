"""Connections that end, are reset or fall silent at any byte of a request, an answer or a handshake.

The caller always has a definite outcome in time, nothing is left behind, and a request goes out again only where
not one byte of an answer had been read.
"""

import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import attrs
import httpx
import pytest
import trio
import trio.testing

from econeura_daemon.wire import Target, open_transport
from tests.support.authority import server_context, trusting
from tests.support.receivers import OK, SETTINGS, Kept, names, open_receiver, read_request

HEAD = b"POST /hook HTTP/1.1\r\nHost: hook.example\r\nContent-Length: 11\r\n"
BODY = b"hello world"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
RESET = b"\1\0\0\0\0\0\0\0"


@attrs.define
class Wire:
    """A server behind a wire that breaks, once, after ``place`` further bytes ``up`` or ``down`` of it."""

    port: int = 0
    answer: bytes = OK
    connections: int = 0
    open: int = 0
    asked: int = 0
    """Requests that came through whole."""
    place: int | None = None
    way: str = ""
    how: str = ""
    passed: dict = attrs.field(factory=lambda: {"up": 0, "down": 0})
    closed: trio.Event = attrs.field(factory=trio.Event)
    silent: trio.Event = attrs.field(factory=trio.Event)

    async def has(self, connections):
        """Return when no more than so many are open."""
        with trio.fail_after(5):
            while self.open > connections:
                self.closed = trio.Event()
                await self.closed.wait()

    def breaks(self, way, place, how):
        self.way, self.place, self.how = way, place, how
        self.passed = {"up": 0, "down": 0}
        self.silent = trio.Event()

    async def stalls(self, call):
        """Let a caller run into the silence, and give up once nothing goes on any more."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await self.silent.wait()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert nursery.cancel_scope.cancelled_caught, "it had an answer"


@asynccontextmanager
async def open_wire(*, tls):
    wire = Wire()

    async def serve(stream):
        while await read_request(stream) is not None:
            wire.asked += 1
            await stream.send_all(wire.answer)

    async with open_receiver(serve, context=server_context("hook.example") if tls else None) as receiver:

        async def carry(near):
            wire.connections += 1
            wire.open += 1
            try:
                far = await trio.open_tcp_stream("127.0.0.1", receiver.port)
                async with far, trio.open_nursery() as nursery:
                    scope = nursery.cancel_scope
                    nursery.start_soon(pump, near, far, "up", near, scope)
                    nursery.start_soon(pump, far, near, "down", near, scope)
            finally:
                await trio.aclose_forcefully(near)
                wire.open -= 1
                wire.closed.set()

        async def pump(source, sink, way, near, scope):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while data := await source.receive_some(65536):
                    left = None if wire.way != way else wire.place
                    if left is not None and left < len(data):
                        wire.way, wire.place = "", None
                        await sink.send_all(data[:left])
                        wire.passed[way] += left
                        await fail(near, source)
                        break
                    if left is not None:
                        wire.place -= len(data)
                    wire.passed[way] += len(data)
                    await sink.send_all(data)
            scope.cancel()

        async def fail(near, source):
            if wire.how == "reset":
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            elif wire.how == "close":
                await near.send_eof()
            else:
                wire.silent.set()
                while await source.receive_some(65536):
                    pass

        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            wire.port = listener.socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, carry, [listener])
            yield wire
            nursery.cancel_scope.cancel()


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@asynccontextmanager
async def calling(tls):
    scheme = "https" if tls else "http"
    files = open_files()
    async with open_wire(tls=tls) as wire:
        resolve = names(hook__example=["127.0.0.1"])
        async with open_transport(SETTINGS, resolve=resolve, make_context=trusting) as over:
            url = httpx.URL(f"{scheme}://hook.example:{wire.port}/hook")

            async def post(*, connect_timeout=5.0):
                kept = Kept()
                await over.post(Target.of(url), HEAD, BODY, kept, connect_timeout=connect_timeout)
                return kept.status, kept.body

            async def fetch():
                """Ask for what may not be asked twice."""
                timeout = {"read": 5, "write": 5, "connect": 5}
                request = httpx.Request("POST", url, content=BODY, extensions={"timeout": timeout})
                response = await over.handle_async_request(request)
                try:
                    return response.status_code, b"".join([part async for part in response.stream])
                finally:
                    await response.aclose()

            yield wire, over, post, fetch
            assert (over.pool.busy, over.pool.waiting) == (0, 0)
            over.pool.expire(float("inf"))
            assert (over.pool.idle, over.pool.hosts) == (0, 0)
            await wire.has(0)
    assert open_files() <= files


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["close", "reset", "stall"])
@pytest.mark.parametrize("answer", [OK, CHUNKED], ids=["length", "chunked"])
async def test_at_any_byte_of_an_answer_on_a_kept_connection(tls, how, answer):
    with trio.fail_after(100):
        async with calling(tls) as (wire, over, post, fetch):
            wire.answer = answer
            assert await post() == (200, b"ok")
            wire.breaks("", None, "")
            assert await post() == (200, b"ok")
            length = wire.passed["down"]
            assert length >= len(answer)
            first = length if tls else 1
            """Under TLS the answer is one record: nothing of it is read before all of it is here."""
            for place in range(length):
                assert await fetch() == (200, b"ok")  # on a connection that is kept
                await wire.has(1)
                connections, asked = wire.connections, wire.asked
                wire.breaks("down", place, how)
                if how == "stall":
                    await wire.stalls(fetch)
                elif place < first:
                    assert await post() == (200, b"ok")
                    assert (wire.connections, wire.asked) == (connections + 1, asked + 2)
                    assert await fetch() == (200, b"ok")
                    await wire.has(1)
                    connections, asked = wire.connections, wire.asked
                    wire.breaks("down", place, how)
                    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                        await fetch()
                else:
                    with pytest.raises(
                        (httpx.RemoteProtocolError, httpx.ReadError), match="before the answer was complete"
                    ):
                        await post()
                assert (wire.connections, wire.asked) == (connections, asked + 1)
                assert (over.pool.busy, over.pool.idle) == (0, 0)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["close", "reset", "stall"])
async def test_at_any_byte_of_a_request_on_a_kept_connection(tls, how):
    with trio.fail_after(100):
        async with calling(tls) as (wire, over, post, fetch):
            assert await post() == (200, b"ok")
            wire.breaks("", None, "")
            assert await post() == (200, b"ok")
            for place in range(wire.passed["up"]):
                assert await fetch() == (200, b"ok")
                await wire.has(1)
                connections, asked = wire.connections, wire.asked
                wire.breaks("up", place, how)
                if how == "stall":
                    await wire.stalls(fetch)
                    assert (wire.connections, wire.asked) == (connections, asked)
                    continue
                assert await post() == (200, b"ok")
                assert (wire.connections, wire.asked) == (connections + 1, asked + 1)
                await wire.has(1)
                wire.breaks("up", place, how)
                with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                    await fetch()
                assert (wire.connections, wire.asked) == (connections + 1, asked + 1)
                assert (over.pool.busy, over.pool.idle) == (0, 0)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("how", ["close", "reset", "stall"])
@pytest.mark.rounds(short=23, soak=1)
async def test_at_any_byte_of_a_new_connection_handshake_and_all(tls, way, how, rounds):
    """``rounds``: the step from one place to the next."""
    with trio.fail_after(600):
        async with calling(tls) as (wire, over, post, _):
            wire.breaks("", None, "")
            assert await post() == (200, b"ok")
            length = wire.passed[way]
            for place in range(0, length - 120 if tls else length, rounds if tls else 1):
                over.pool.expire(float("inf"))
                await wire.has(0)
                connections, asked = wire.connections, wire.asked
                wire.breaks(way, place, how)
                if how == "stall":
                    await wire.stalls(post)
                else:
                    with pytest.raises(httpx.TransportError) as caught:
                        await post()
                    assert str(caught.value)
                assert wire.connections == connections + 1
                assert wire.asked <= asked + 1
                assert (over.pool.busy, over.pool.idle) == (0, 0)
            wire.breaks("", None, "")
            assert await post() == (200, b"ok")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("how", ["close", "reset", "stall"])
async def test_an_answer_before_all_of_the_request_was_read_is_the_answer(tls, kept, how):
    """RFC 9112 9.5: a server need not read what it refuses; that the sending breaks then is not the news."""
    asked = 0

    async def serve(stream):
        nonlocal asked
        if kept:
            await read_request(stream)
            await stream.send_all(OK)
        await stream.receive_some(100)
        asked += 1
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        if how == "reset":
            raw = stream.transport_stream if tls else stream
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif how == "stall":
            await trio.sleep_forever()

    large = bytes(20_000_000)
    head = HEAD.replace(b"11", b"%d" % len(large))
    with trio.fail_after(20):
        async with (
            open_receiver(serve, context=server_context("hook.example") if tls else None) as receiver,
            open_transport(
                SETTINGS, resolve=names(hook__example=["127.0.0.1"]), make_context=trusting
            ) as over,
        ):
            target = Target.of(httpx.URL(receiver.url("hook.example", "https" if tls else "http")))
            for number in range(1, 4):
                if kept:
                    await over.post(target, HEAD, BODY, Kept())
                sink = Kept()
                await over.post(target, head, large, sink)
                assert (sink.status, sink.body) == (413, b"no")
                assert (over.pool.busy, over.pool.idle) == (0, 0)
                assert (receiver.connections, asked) == (number, number)
