"""The life of connections and requests, over real sockets on loopback."""

import contextlib

import pytest
import trio

from econeura_daemon.server.http1_exchange import HALF_CLOSED_GRACE
from tests.http.server_rig import PATIENCE, App, Client, answer, read_body, request, serving


async def test_a_request_is_answered_and_the_connection_is_kept():
    async with serving() as rig, Client(await rig.connect()) as client:
        for body in (b"one", b"two", b""):
            await client.send(request(body=body))
            answer = await client.answer()
            assert (answer.status, answer.body) == (200, body)


async def test_pipelined_requests_are_answered_in_their_order():
    async with serving() as rig, Client(await rig.connect()) as client:
        bodies = [b"%d" % n for n in range(50)]
        await client.send(b"".join(request(body=body) for body in bodies))
        assert [(await client.answer()).body for _ in bodies] == bodies


async def test_a_body_in_single_bytes_and_in_chunks_arrives_whole():
    raw = (
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    )
    async with serving() as rig, Client(await rig.connect()) as client:
        for byte in raw:
            await client.send(bytes([byte]))
        assert (await client.answer()).body == b"abc0123456789"
        await client.send(request(body=b"again"))
        assert (await client.answer()).body == b"again"


async def test_a_large_body_passes_and_one_beyond_the_limit_is_413():
    async with serving(max_body_bytes=1_000_000) as rig:
        answer = await rig.ask(request(body=b"x" * 1_000_000))
        assert answer.body == b"x" * 1_000_000


async def test_the_lifespan_runs_once_around_everything():
    app = App()
    async with serving(app) as rig:
        assert app.lifespan == ["lifespan.startup"]
        await rig.ask(request())
    assert app.lifespan == ["lifespan.startup", "lifespan.shutdown"]


async def test_a_head_answer_has_no_body():
    async with serving() as rig, Client(await rig.connect()) as client:
        await client.send(request("/blind", method="HEAD") + request("/blind"))
        assert (await client.answer(method="HEAD")).body == b""
        assert (await client.answer()).body == b"ok"


async def test_100_continue_comes_when_the_application_reads_and_not_before_a_refusal():
    head = "Expect: 100-continue\r\n"
    raw = request("/echo", body=b"x", headers=head)
    async with serving() as rig, Client(await rig.connect()) as client:
        await client.send(raw[:-1])
        with trio.fail_after(PATIENCE):
            assert await client.stream.receive_some(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"x")
        assert (await client.answer()).body == b"x"
        await client.send(request("/echo", method="POST", headers=head + "Content-Length: 9999999999\r\n"))
        answer = await client.answer(until_closed=True)
        assert answer.status == 413


@pytest.mark.parametrize("path", ["/gives-up", "/gives-up-at-the-end"])
async def test_an_answer_that_its_application_gave_up_is_cut_off_and_nothing_follows_it(path):
    async with serving() as rig, Client(await rig.connect()) as client:
        await client.send(request(path) + request("/echo", body=b"next"))
        with trio.fail_after(PATIENCE):
            await rig.app.entered.wait()
        await rig.wait_for_connections(0)
        text = b""
        with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(PATIENCE):
            while data := await client.stream.receive_some(1_000_000):
                text += data
        assert text.partition(b"\r\n\r\n")[2].strip(b"x0123456789abcdef\r\n") == b""
        assert "/echo" not in rig.app.calls


async def test_an_application_that_goes_on_after_its_answer_sees_nothing_but_the_end():
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await answer(send, await read_body(receive))
        await send({"type": "http.response.body", "body": b"too late", "more_body": False})
        seen.extend([(await receive())["type"] for _ in range(3)])

    async with serving(app) as rig, Client(await rig.connect()) as client:
        for body in (b"one", b"two"):
            await client.send(request(body=body))
            assert (await client.answer()).body == body
        await client.stream.send_eof()
        await rig.wait_for_connections(0)
    assert seen == ["http.disconnect"] * 6


async def test_the_disconnect_is_told_once_the_last_bytes_are_written():
    """Quart-Trio cancels its handler as soon as it hears of one; a chunked answer would break off."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await read_body(receive)
        async with trio.open_nursery() as nursery:

            async def end_with_the_client():
                assert (await receive())["type"] == "http.disconnect"
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_with_the_client)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun, ", "more_body": True})
            await send({"type": "http.response.body", "body": b"x" * 8_000_000, "more_body": False})
            nursery.cancel_scope.cancel()

    async with serving(app) as rig, Client(await rig.connect()) as client:
        for _ in range(3):
            await client.send(request())
            answered = await client.answer()
            assert answered.is_complete
            assert len(answered.body) == 8_000_007


async def test_a_client_that_leaves_cancels_its_handler():
    async with serving() as rig:
        async with Client(await rig.connect()) as client:
            await client.send(request("/wait"))
            with trio.fail_after(PATIENCE):
                await rig.app.entered.wait()
        with trio.fail_after(PATIENCE):
            await rig.app.cancelled.wait()


async def test_a_client_that_only_stops_sending_still_gets_its_answer():
    async with serving() as rig, Client(await rig.connect()) as client:
        await client.send(request("/wait"))
        with trio.fail_after(PATIENCE):
            await rig.app.entered.wait()
            await client.stream.send_eof()
        await trio.sleep(0.3)
        rig.app.release.set()
        assert (await client.answer(until_closed=True)).body == b"waited"


async def test_pipelined_requests_before_the_end_are_all_answered():
    async with serving() as rig, Client(await rig.connect()) as client:
        await client.send(request("/echo", body=b"one") + request("/echo", body=b"two"))
        await client.stream.send_eof()
        assert (await client.answer()).body == b"one"
        assert (await client.answer(until_closed=True)).body == b"two"


async def test_a_reader_of_a_stream_that_leaves_is_noticed_at_once():
    async with serving() as rig:
        async with Client(await rig.connect()) as client:
            await client.send(request("/stream"))
            await client.stream.receive_some(100)
            await client.stream.send_eof()
            begun = trio.current_time()
            with trio.fail_after(PATIENCE):
                await rig.app.cancelled.wait()
        assert trio.current_time() - begun < HALF_CLOSED_GRACE / 2
