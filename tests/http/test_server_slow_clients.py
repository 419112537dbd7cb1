"""Clients that send slowly, or stop reading, take neither handlers nor memory from the others."""

import socket

import pytest
import trio
from quart_trio import QuartTrio

from econeura_daemon.api.requests import InTaskConnection
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server import HotRoute, Response, open_listeners
from econeura_daemon.server.rules.body import MIN_RATE
from econeura_daemon.server.rules.memory import Memory, Share
from econeura_daemon.server.rules.shed import Hold, Slots
from tests.http.server_rig import PATIENCE, App, Client, answer, descriptors_for, read_body, request, serving

CROWD = 400
LARGE = b"x" * 100_000
"""Too much for the socket buffers of these tests, so that it waits for its reader."""


async def hot(asked):
    return Response(202, asked.body, [])


HOT = {("POST", "/hot"): HotRoute(hot, "/hot")}


def quart_app():
    app = QuartTrio(__name__)
    app.asgi_http_class = InTaskConnection

    @app.post("/echo")
    async def echo():
        return await _body()

    @app.get("/large")
    async def large():
        return LARGE

    async def _body():
        from quart import request as asked

        return await asked.get_data()

    return app


async def connect(rig, host="127.0.0.2"):
    """Connect from another address: by default one peer may have only half of all connections."""
    stream = trio.SocketStream(trio.socket.socket())
    await stream.socket.bind((host, 0))
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await stream.socket.connect(("127.0.0.1", rig.port))
    return stream


def serving_small_buffers(app=None, **settings):
    """Serve with send buffers that 100 kB do not fit into; all limits are the defaults."""
    listeners = open_listeners(HttpSettings(bind=("127.0.0.1:0",)), {}, has_tokens=False)
    listeners[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_000)
    return serving(app, hot=HOT, listeners=listeners, scope_of=lambda *_: None, **settings)


async def all_stall(rig, raw, host):
    """Let a crowd of clients send ``raw`` and then do nothing."""
    streams = []
    for _ in range(CROWD):
        stream = await connect(rig, host)
        streams.append(stream)
        await stream.send_all(raw)
    return streams


@pytest.mark.parametrize("slow_path", ["/hot", "/echo"])
async def test_hundreds_of_slow_bodies_and_of_readers_that_stopped_leave_everybody_else_served(slow_path):
    """At default limits, but for the times: each of both is twice as many as there are slots."""
    patient = {"body_timeout_ms": 60_000, "send_timeout_ms": 60_000}
    # So large a body may stall for long: the least rate is one on average, and a slow machine has time to get there.
    size = int(patient["body_timeout_ms"] / 1000 * MIN_RATE)
    whole = request(slow_path, body=b"x" * size)
    streams = []
    async with serving_small_buffers(quart_app(), drain_timeout_ms=100, **patient) as rig:
        with descriptors_for(2 * CROWD), trio.fail_after(60):
            try:
                slow = await all_stall(rig, whole[:-500], "127.0.0.2")
                streams += slow + await all_stall(rig, request("/large"), "127.0.0.3")
                await trio.testing.wait_all_tasks_blocked(0.05)
                async with Client(await rig.connect()) as healthy:
                    for raw, status in {
                        request("/hot", body=b"well"): 202,
                        request("/echo", body=b"well"): 200,
                    }.items():
                        for _ in range(50):
                            await healthy.send(raw)
                            found = await healthy.answer()
                            assert (found.status, found.body) == (status, b"well")
                    await healthy.send(request("/large"))
                    assert (await healthy.answer()).body == LARGE
                await slow[0].send_all(whole[-500:])  # in the end they are served as well
                assert (await Client(slow[0]).answer()).body == b"x" * size
                assert (await Client(streams[-1]).answer()).body == LARGE
            finally:
                for stream in streams:
                    stream.socket.close()


async def test_a_handler_at_work_holds_its_slot_whatever_it_reads_and_sends():
    app = App()
    async with (
        serving(app, max_concurrent_requests=1) as rig,
        Client(await rig.connect()) as works,
        Client(await rig.connect()) as waits,
    ):
        await works.send(request("/begun"))
        with trio.fail_after(PATIENCE):
            await app.entered.wait()
        await waits.send(request("/blind"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert app.calls == ["/begun"]
        app.release.set()
        assert (await waits.answer()).body == b"ok"


async def test_a_handler_whose_body_came_slowly_works_in_a_slot_or_is_503():
    release, bodies = trio.Event(), []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        bodies.append(await read_body(receive))
        await release.wait()
        await answer(send, bodies[-1])

    async with serving(app, max_concurrent_requests=1) as rig:
        clients = [Client(await rig.connect()) for _ in range(4)]
        for number, client in enumerate(clients):
            await client.send(request("/", body=b"body %d" % number)[:-1])
            await trio.testing.wait_all_tasks_blocked(0.05)
        for number, client in enumerate(clients):
            await client.send(b"%d" % number)
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert bodies == [b"body 0"]
        for client in clients[2:]:  # one is at work, one waits
            assert (await client.answer()).status == 503
        release.set()
        for number, client in enumerate(clients[:2]):
            assert (await client.answer()).body == b"body %d" % number
        for client in clients:
            await trio.aclose_forcefully(client.stream)


async def test_a_handler_whose_client_reads_again_waits_for_its_slot():
    at_work = most = 0

    async def app(scope, receive, send):
        nonlocal at_work, most
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await read_body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(5):
            at_work += 1
            most = max(most, at_work)
            await trio.sleep(0.01)
            at_work -= 1
            await send({"type": "http.response.body", "body": LARGE, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with serving_small_buffers(app, max_concurrent_requests=2) as rig, trio.open_nursery() as nursery:

        async def ask():
            async with Client(await connect(rig)) as client:
                await client.send(request("/", body=b"x"))
                assert (await client.answer()).body == LARGE * 5

        for _ in range(4):
            nursery.start_soon(ask)
    assert most == 2


async def test_bodies_that_take_more_than_their_part_are_503_when_memory_is_short(monkeypatch):
    monkeypatch.setattr("econeura_daemon.server.rules.memory.MIN_TOTAL", 200_000)
    async with serving(hot=HOT, max_body_bytes=100_000) as rig:
        raw = request("/echo", body=b"x" * 90_000)
        clients = []
        for _ in range(4):
            client = Client(await rig.connect())
            clients.append(client)
            await client.send(raw[:-10_000])
        found = await clients[-1].answer(until_closed=True)
        assert (found.status, found.headers["retry-after"]) == (503, "1")
        for path, status in (("/hot", 202), ("/echo", 200)):
            assert (await rig.ask(request(path, body=b"x" * 10_000))).status == status
        for client in clients[:2]:
            await client.send(raw[-10_000:])
            assert (await client.answer()).body == b"x" * 90_000
        for client in clients:
            await trio.aclose_forcefully(client.stream)
        for _ in range(4):
            async with Client(await rig.connect()) as leaves:
                await leaves.send(raw[:60_000])
                await trio.testing.wait_all_tasks_blocked(0.05)
        await rig.wait_for_connections(0)
        assert (await rig.ask(raw)).status == 200  # all that was kept is given back


async def test_answers_that_nobody_reads_are_given_up_when_memory_is_short(monkeypatch):
    monkeypatch.setattr("econeura_daemon.server.rules.memory.MIN_TOTAL", 250_000)

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await answer(send, LARGE if scope["path"] == "/large" else b"small")

    async with serving_small_buffers(app, max_body_bytes=1024) as rig:
        readers = [Client(await connect(rig)) for _ in range(4)]
        for client in readers:
            await client.send(request("/large"))
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert rig.server.connections == 2
        assert (await rig.ask(request("/"))).body == b"small"
        for client in readers[:2]:
            assert (await client.answer()).body == LARGE
            await trio.aclose_forcefully(client.stream)
        for client in readers[2:]:
            with pytest.raises(ConnectionError):
                await client.answer()
            await trio.aclose_forcefully(client.stream)
        assert (await rig.ask(request("/large"))).body == LARGE


def test_memory_is_shared_out_fairly_and_given_back():
    memory = Memory(HttpSettings(max_body_bytes=1024))
    total = 64 * 1024 * 1024
    first, second, third = (Share(memory) for _ in range(3))
    assert first.grow(total - 10)
    assert not first.grow(11)
    assert second.grow(1000)  # beyond the total, but less than an equal part
    assert not first.grow(1)
    assert third.grow(total // 3 - 1)
    assert not third.grow(2)
    assert (memory.used, memory.sharers) == (total - 10 + 1000 + total // 3 - 1, 3)
    first.shrink(total - 1000)
    assert third.grow(2)
    for share in (first, second, third):
        share.close()
        share.close()
    assert (memory.used, memory.sharers) == (0, 0)


async def test_of_two_tasks_of_a_handler_one_waits_for_its_slot_and_it_is_had_once():
    slots = Slots(1, 10)
    assert await slots.acquire()
    hold = Hold(slots)
    hold.lend()
    hold.lend()
    assert await slots.acquire()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold.resume_in_turn)
            await trio.testing.wait_all_tasks_blocked()
            assert await hold.resume()  # else it would wait for what the other task then holds
            slots.release()
    assert slots.free == 0
    hold.release()
    hold.release()
    assert slots.free == 1
    assert await hold.resume()  # it is over: nothing is taken
    await hold.resume_in_turn()
    assert slots.free == 1


async def test_a_slot_that_comes_after_the_end_is_given_back():
    slots = Slots(1, 10)
    assert await slots.acquire()
    hold = Hold(slots)
    hold.lend()
    assert await slots.acquire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold.resume)
        await trio.testing.wait_all_tasks_blocked()
        hold.release()  # it became long-lived, say
        slots.release()
    assert slots.free == 1


async def test_a_place_in_the_queue_is_given_up_when_its_handler_is_cancelled():
    slots = Slots(1, 1)
    assert await slots.acquire()
    hold = Hold(slots)
    hold.lend()
    assert await slots.acquire()
    for wait in (hold.resume_in_turn, hold.resume):
        with trio.move_on_after(0) as cancelled:
            await wait()
        assert cancelled.cancelled_caught
    hold.release()
    slots.release()
    assert slots.free == 1
    async with trio.open_nursery() as nursery:
        assert await slots.acquire()
        waiting = Hold(slots)
        waiting.lend()
        assert await slots.acquire()
        nursery.start_soon(slots.acquire)
        await trio.testing.wait_all_tasks_blocked()
        assert not await waiting.resume()  # too many wait already
        nursery.cancel_scope.cancel()
