"""Stopping: what is under way ends, what is idle goes, and nothing lasts beyond the deadline."""

import socket

import trio

from tests.http.server_rig import PATIENCE, App, Client, request, serving


async def test_a_request_under_way_is_answered_and_its_connection_closed():
    app = App()
    with trio.fail_after(PATIENCE):
        async with serving(app, drain_timeout_ms=60_000) as rig, Client(await rig.connect()) as client:
            await client.send(request("/wait"))
            await app.entered.wait()
            rig.server.stop_accepting()
            assert rig.server.draining.is_set()
            app.release.set()
            answer = await client.answer(until_closed=True)
            assert answer.body == b"waited"
            assert answer.headers["connection"] == "close"


async def test_of_pipelined_requests_only_the_one_under_way_is_answered():
    app = App()
    with trio.fail_after(PATIENCE):
        async with serving(app, drain_timeout_ms=60_000) as rig, Client(await rig.connect()) as client:
            await client.send(request("/begun") + request("/blind") * 3)
            await app.entered.wait()
            await trio.testing.wait_all_tasks_blocked(0.02)
            rig.server.stop_accepting()
            app.release.set()
            answer = await client.answer(until_closed=True)
            assert answer.body == b": begun\n."
            assert "connection" not in answer.headers
        assert app.calls == ["/begun"]


async def test_idle_connections_are_closed_at_once_and_nobody_can_connect():
    with trio.fail_after(PATIENCE):
        async with serving(drain_timeout_ms=60_000) as rig:
            used, fresh = Client(await rig.connect()), Client(await rig.connect())
            await used.send(request("/blind"))
            await used.answer()
            await trio.testing.wait_all_tasks_blocked(0.02)
            rig.server.stop_accepting()
            rig.server.stop_accepting()
            await used.is_closed()
            await fresh.is_closed()
            try:
                await rig.connect()
            except OSError:
                pass
            else:
                raise AssertionError("somebody could still connect")
        for client in (used, fresh):
            await client.stream.aclose()


async def test_streams_see_that_the_server_stops():
    with trio.fail_after(PATIENCE):
        async with serving(drain_timeout_ms=60_000) as rig:
            client = Client(await rig.connect())
            await client.send(request("/stream"))
            await client.stream.receive_some(1000)
            rig.server.stop_accepting()
            text = b""
            while data := await client.stream.receive_some(1000):
                text += data
            assert text.endswith(b": end\n\r\n0\r\n\r\n")
        await client.stream.aclose()


async def test_a_request_that_does_not_end_is_cancelled_at_the_deadline():
    app = App()
    with trio.fail_after(PATIENCE):
        async with serving(app, drain_timeout_ms=200) as rig:
            client = Client(await rig.connect())
            await client.send(request("/wait"))
            await app.entered.wait()
            begun = trio.current_time()
        assert 0.15 < trio.current_time() - begun < 5
        assert app.cancelled.is_set()
        assert app.lifespan[-1] == "lifespan.shutdown"
        await client.stream.aclose()


async def test_connections_that_the_kernel_had_accepted_are_still_served():
    """They wait in the listening socket's queue; closing it would reset them."""
    with trio.fail_after(PATIENCE):
        async with serving() as rig:
            raw = socket.create_connection(("127.0.0.1", rig.port))
            raw.setblocking(False)
            raw.send(request("/blind"))
            rig.server.stop_accepting()
            client = Client(trio.SocketStream(trio.socket.from_stdlib_socket(raw)))
            assert (await client.answer(until_closed=True)).body == b"ok"
        await client.stream.aclose()


async def test_a_cancelled_block_ends_at_once():
    app = App()
    with trio.fail_after(PATIENCE):
        with trio.CancelScope() as scope:
            async with serving(app, drain_timeout_ms=60_000) as rig:
                client = Client(await rig.connect())
                await client.send(request("/wait"))
                await app.entered.wait()
                scope.cancel()
        assert app.cancelled.is_set()
        await client.stream.aclose()
