"""The outgoing transport: whom it connects to, what it verifies, what it keeps open."""

from ipaddress import ip_address

import httpx
import pytest
import trio
import trio.testing

from econeura_daemon.core.errors import EgressRefusedError
from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.wire import AnswerTooLargeError, GuardedTransport, open_transport, opening
from econeura_daemon.wire.connect import Connector
from econeura_daemon.wire.egress import EgressGuard
from econeura_daemon.wire.pool import Limits
from tests.support.authority import server_context, trusting
from tests.support.receivers import (
    LOOPBACK,
    OK,
    SETTINGS,
    answering,
    names,
    open_receiver,
    read_request,
    saying,
)


def request(url, connect=None, **more):
    extensions = {} if connect is None else {"timeout": {"connect": connect}}
    return httpx.Request("POST", url, content=b"{}", extensions=extensions, **more)


async def fetch(over, url, **more):
    response = await over.handle_async_request(request(url, **more))
    try:
        return response.status_code, b"".join([part async for part in response.stream])
    finally:
        await response.aclose()


async def test_connections_are_kept_and_used_again():
    with trio.fail_after(10):
        async with open_receiver(answering(OK)) as receiver, open_transport(SETTINGS) as over:
            for _ in range(5):
                assert await fetch(over, receiver.url()) == (200, b"ok")
            assert receiver.connections == 1


async def test_the_bound_of_an_answer_holds_for_each_and_not_for_a_connection():
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000
    with trio.fail_after(10):
        async with open_receiver(answering(large)) as receiver, open_transport(SETTINGS) as over:
            for _ in range(4):
                assert await fetch(over, receiver.url()) == (200, b"x" * 40_000)
            assert receiver.connections == 1


async def test_at_the_end_of_the_block_every_connection_is_closed():
    with trio.fail_after(10):
        async with open_receiver(answering(OK)) as receiver:
            async with open_transport(SETTINGS) as over:
                await fetch(over, receiver.url())
                assert receiver.open == 1
            await receiver.all_closed.wait()


async def test_host_and_sni_are_the_name_while_the_connection_goes_to_the_checked_address():
    seen = []
    context = server_context("hook.example")
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    requests = []
    with trio.fail_after(10):
        async with (
            open_receiver(answering(OK, requests), context=context) as receiver,
            open_transport(
                SETTINGS, resolve=names(hook__example=["127.0.0.1"]), make_context=trusting
            ) as over,
        ):
            assert await fetch(over, receiver.url("hook.example", "https")) == (200, b"ok")
    assert seen == ["hook.example"]
    assert f"Host: hook.example:{receiver.port}" in requests[0][0]


async def test_a_certificate_for_another_name_is_refused():
    with trio.fail_after(10):
        async with (
            open_receiver(answering(OK), context=server_context("other.example")) as receiver,
            open_transport(
                SETTINGS, resolve=names(hook__example=["127.0.0.1"]), make_context=trusting
            ) as over,
        ):
            with pytest.raises(httpx.ConnectError, match=r"TLS with hook\.example failed.*[Hh]ostname"):
                await fetch(over, receiver.url("hook.example", "https"))
            await receiver.all_closed.wait()


async def test_a_certificate_of_an_unknown_authority_is_refused():
    with trio.fail_after(10):
        async with (
            open_receiver(answering(OK), context=server_context("hook.example")) as receiver,
            open_transport(SETTINGS, resolve=names(hook__example=["127.0.0.1"])) as over,
        ):
            with pytest.raises(httpx.ConnectError, match="certificate does not verify"):
                await fetch(over, receiver.url("hook.example", "https"))


async def test_a_certificate_for_an_address_verifies():
    with trio.fail_after(10):
        async with (
            open_receiver(answering(OK), context=server_context("127.0.0.1")) as receiver,
            open_transport(SETTINGS, make_context=trusting) as over,
        ):
            assert await fetch(over, receiver.url(scheme="https")) == (200, b"ok")


async def test_a_handshake_without_an_answer_ends_in_time_and_is_told_in_words(mock_clock):
    def make():
        mock_clock.jump(5)  # to read the certificates takes its time, which is not the server's
        return trusting()

    async def silent(stream):
        await stream.receive_some(1)  # the handshake has begun
        mock_clock.jump(0.3)
        await trio.sleep_forever()

    async with open_receiver(silent) as receiver, open_transport(SETTINGS, make_context=make) as over:
        with pytest.raises(httpx.ConnectTimeout, match=r"TLS handshake with 127\.0\.0\.1"):
            await fetch(over, receiver.url(scheme="https"), connect=0.2)


async def test_a_server_without_tls_is_told_in_words():
    with trio.fail_after(10):

        async def plain(stream):
            await stream.send_all(OK)

        async with open_receiver(plain) as receiver, open_transport(SETTINGS) as over:
            with pytest.raises(httpx.ConnectError, match=r"TLS with 127\.0\.0\.1 failed: "):
                await fetch(over, receiver.url(scheme="https"))

        async def closing(stream):
            await stream.receive_some(1)

        async with open_receiver(closing) as receiver, open_transport(SETTINGS) as over:
            with pytest.raises(httpx.ConnectError, match=r"TLS with 127\.0\.0\.1 failed: "):
                await fetch(over, receiver.url(scheme="https"))


async def test_the_tls_context_is_made_once_however_many_ask():
    made = []

    def make():
        made.append(1)
        return trusting()

    with trio.fail_after(10):
        connector = Connector(EgressGuard(LOOPBACK), names(), make)
        contexts = []

        async def ask():
            contexts.append(await connector.context())

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)
    assert len(made) == 1
    assert len(set(contexts)) == 1


@pytest.mark.parametrize("bad", ["127.0.0.1", "10.0.0.1", "::ffff:127.0.0.1", "169.254.169.254"])
async def test_one_refused_answer_refuses_the_name_before_anybody_is_called(bad):
    with trio.fail_after(10):
        async with (
            open_receiver(answering(OK)) as receiver,
            open_transport(WebhookSettings(), resolve=names(hook__example=["93.184.216.34", bad])) as over,
        ):
            with pytest.raises(EgressRefusedError, match=r"allowed_networks"):
                await fetch(over, receiver.url("hook.example"))
            assert receiver.connections == 0


async def test_the_address_that_was_checked_is_the_one_that_is_called_when_answers_change():
    answers = [["127.0.0.1"], ["10.0.0.1"], ["127.0.0.1"]]

    async def rebinding(host):
        await trio.lowlevel.checkpoint()
        return [ip_address(one) for one in answers.pop(0)]

    with trio.fail_after(10):
        async with (
            open_receiver(saying(OK)) as receiver,
            open_transport(SETTINGS, resolve=rebinding) as over,
        ):
            assert await fetch(over, receiver.url("hook.example")) == (200, b"ok")
            assert len(answers) == 2  # asked once for one connection
            await receiver.all_closed.wait()
            with pytest.raises(EgressRefusedError, match=r"10\.0\.0\.1"):
                await fetch(over, receiver.url("hook.example"))
            assert await fetch(over, receiver.url("hook.example")) == (200, b"ok")


async def test_a_dead_first_address_does_not_keep_from_the_second():
    with trio.fail_after(10):
        async with (
            open_receiver(answering(OK)) as receiver,
            open_transport(SETTINGS, resolve=names(hook__example=["127.0.0.2", "127.0.0.1"])) as over,
        ):
            assert await fetch(over, receiver.url("hook.example")) == (200, b"ok")


async def full_listener():
    """Return a listening socket that answers no further connection: its queue is full and nobody accepts."""
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.3", 0))
    listener.listen(0)
    return listener


async def test_a_silent_first_address_gets_its_share_of_the_time_and_no_more():
    silent = await full_listener()
    port = silent.getsockname()[1]
    fillers = [trio.socket.socket() for _ in range(2)]
    with silent, fillers[0], fillers[1], trio.fail_after(10):
        for filler in fillers:
            with trio.move_on_after(0.05):
                await filler.connect(("127.0.0.3", port))
        connector = Connector(EgressGuard(LOOPBACK), names(hook__example=["127.0.0.3", "127.0.0.1"]))
        started = trio.current_time()
        with pytest.raises(
            httpx.ConnectTimeout, match=r"127\.0\.0\.3:\d+ within \d{3,4} ms; connection refused by 127"
        ):
            await connector.open_tcp("hook.example", port, 2)
        assert 0.9 < trio.current_time() - started < 2


async def test_a_refused_connection_is_told_with_its_address():
    with trio.fail_after(10):
        async with open_transport(SETTINGS) as over:
            with pytest.raises(httpx.ConnectError, match=r"^connection refused by 127\.0\.0\.1:1$"):
                await fetch(over, "http://127.0.0.1:1/")
            with pytest.raises(httpx.ConnectError, match=r"^connection refused by \[::1\]:1$|\[::1\]:1: "):
                await fetch(over, "http://[::1]:1/")


async def test_a_name_that_is_not_resolved_in_time_or_has_no_address_is_told(autojump_clock):
    async def hanging(host):
        await trio.sleep_forever()

    async with open_transport(SETTINGS, resolve=hanging) as over:
        with pytest.raises(httpx.ConnectTimeout, match="not resolved within 5000 ms"):
            await fetch(over, "http://hook.example/", connect=5)
    async with open_transport(SETTINGS, resolve=names(hook__example=[])) as over:
        with pytest.raises(httpx.ConnectError, match="no address"):
            await fetch(over, "http://hook.example/")


async def test_an_answer_without_a_body_takes_nothing_of_the_next_one_on_its_connection():
    empty, full = b"HTTP/1.1 204 No Content\r\n\r\n", OK
    turns = [empty, full]

    async def serve(stream):
        while await read_request(stream):
            await stream.send_all(turns.pop(0))

    with trio.fail_after(10):
        async with open_receiver(serve) as receiver, open_transport(SETTINGS) as over:
            first = await over.handle_async_request(request(receiver.url()))
            second = await over.handle_async_request(request(receiver.url()))
            assert b"".join([part async for part in first.stream]) == b""
            assert b"".join([part async for part in second.stream]) == b"ok"
            assert receiver.connections == 1


async def test_a_connection_that_the_server_closed_while_idle_is_not_used_again():
    with trio.fail_after(10):
        async with open_receiver(saying(OK)) as receiver, open_transport(SETTINGS) as over:
            for _ in range(3):
                assert await fetch(over, receiver.url()) == (200, b"ok")
                await receiver.all_closed.wait()
            assert receiver.connections == 3


async def test_a_half_read_answer_is_closed_with_its_connection_and_leaves_nothing_behind():
    flood = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000
    with trio.fail_after(10):
        async with open_receiver(answering(flood)) as receiver, open_transport(SETTINGS) as over:
            response = await over.handle_async_request(request(receiver.url()))
            assert await anext(aiter(response.stream))
            await response.aclose()
            await response.stream.aclose()
            await receiver.all_closed.wait()


async def test_an_answer_is_read_up_to_its_bound_and_the_connection_dropped():
    async def flood(stream):
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 4096)

    with trio.fail_after(10):
        async with open_receiver(flood) as receiver, open_transport(SETTINGS) as over:
            response = await over.handle_async_request(request(receiver.url()))
            size = 0

            async def read():
                nonlocal size
                async for part in response.stream:
                    size += len(part)

            with pytest.raises(AnswerTooLargeError):
                await read()
            assert 60_000 < size <= 65_536
            await response.aclose()
            await receiver.all_closed.wait()


async def test_cancelling_a_request_closes_its_connection():
    async def silent(stream):
        await stream.receive_some(1)
        while await stream.receive_some(65536):
            pass

    with trio.fail_after(10):
        async with open_receiver(silent) as receiver, open_transport(SETTINGS) as over:
            with trio.move_on_after(0.05):
                await fetch(over, receiver.url())
            assert receiver.connections == 1
            await receiver.all_closed.wait()
            assert "0 busy" in repr(over)


async def test_pools_that_nobody_uses_are_dropped_in_time():
    with trio.fail_after(10):
        async with open_receiver(answering(OK)) as receiver:
            over = GuardedTransport(Connector(EgressGuard(LOOPBACK), names()))
            await fetch(over, receiver.url())
            used = trio.current_time()
            await over.drop_idle(used - 1)
            assert "1 origins" in repr(over)
            await over.drop_idle(used)
            assert "0 origins" in repr(over)
            await receiver.all_closed.wait()


async def test_a_pool_in_use_is_not_dropped():
    with trio.fail_after(10):
        async with open_receiver(answering(OK)) as receiver, open_transport(SETTINGS) as over:
            response = await over.handle_async_request(request(receiver.url()))
            await over.drop_idle(trio.current_time() + 1000)
            assert b"".join([part async for part in response.stream]) == b"ok"
            await response.aclose()


async def test_idle_pools_are_dropped_by_the_clock(mock_clock):
    with trio.fail_after(10_000):
        async with open_receiver(answering(OK)) as receiver, open_transport(SETTINGS) as over:
            await fetch(over, receiver.url())
            mock_clock.jump(opening.IDLE_SECONDS * 2)
            await receiver.all_closed.wait()
            assert "0 origins" in repr(over)


async def test_idle_connections_are_bounded_in_number():
    limits = Limits(idle_in_all=3)
    resolve = names(**{f"h{n}__example": ["127.0.0.1"] for n in range(6)})
    with trio.fail_after(10):
        async with (
            open_receiver(answering(OK)) as receiver,
            open_transport(SETTINGS, resolve=resolve, limits=limits) as over,
        ):
            for n in range(6):
                await fetch(over, receiver.url(f"h{n}.example"))
            assert "3 origins" in repr(over)
            await fetch(over, receiver.url("h5.example"))
            assert receiver.connections == 6
            await fetch(over, receiver.url("h0.example"))
            assert receiver.connections == 7


async def test_another_guard_holds_from_the_next_request_on_for_kept_connections_too():
    with trio.fail_after(10):
        async with open_receiver(answering(OK)) as receiver, open_transport(SETTINGS) as over:
            response = await over.handle_async_request(request(receiver.url()))
            over.use(EgressGuard())
            with pytest.raises(EgressRefusedError):
                await fetch(over, receiver.url())
            await over.drop_idle(0)
            assert b"".join([part async for part in response.stream]) == b"ok"
            await response.aclose()
            await receiver.all_closed.wait()
            over.use(EgressGuard(LOOPBACK))
            assert await fetch(over, receiver.url()) == (200, b"ok")


async def test_proxies_and_netrc_of_the_environment_mean_nothing(monkeypatch, tmp_path):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NETRC", str(tmp_path))
    with trio.fail_after(10):
        async with open_receiver(answering(OK)) as receiver, open_transport(SETTINGS) as over:
            assert await fetch(over, receiver.url()) == (200, b"ok")


async def test_other_schemes_are_refused():
    async with open_transport(SETTINGS) as over:
        with pytest.raises(httpx.UnsupportedProtocol):
            await fetch(over, "ftp://127.0.0.1/")


async def test_it_serves_an_ordinary_httpx_client():
    with trio.fail_after(10):
        async with (
            open_receiver(answering(OK)) as receiver,
            open_transport(SETTINGS) as over,
            httpx.AsyncClient(transport=over) as client,
        ):
            assert (await client.post(receiver.url(), content=b"{}")).text == "ok"
