"""Requests and answers that cross, break off, stall, or meet a connection that died: nothing leaks."""

import socket
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.wire import Limits, Pool, Target, open_transport
from econeura_daemon.wire.connection import Connection
from econeura_daemon.wire.exchange import Exchange
from tests.support.receivers import OK, SETTINGS, Kept, answering, names, open_receiver, read_request, saying

RESET = b"\1\0\0\0\0\0\0\0"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


def request(url, method="GET", **more):
    return httpx.Request(
        method, url, **{"headers": {"Content-Length": "0"} if "content" not in more else {}, **more}
    )


async def fetch(over, url, method="GET", **more):
    response = await over.handle_async_request(request(url, method, **more))
    try:
        return response.status_code, b"".join([part async for part in response.stream])
    finally:
        await response.aclose()


def is_at_rest(over):
    return over.pool.busy == over.pool.waiting == 0


# A connection that died while it was idle


@asynccontextmanager
async def serving_once_and(second, **how):
    """A receiver whose connections answer one request and then do ``second`` with the next."""

    async def serve(stream):
        if await read_request(stream) is not None:
            await stream.send_all(OK)
            await second(stream)

    async with open_receiver(serve, **how) as receiver, open_transport(SETTINGS) as over:
        yield receiver, over


async def drop(stream):
    await read_request(stream)  # closes without an answer


async def reset(stream):
    await read_request(stream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def silent(stream):
    while await stream.receive_some(65536):
        pass


async def begin(stream):
    await read_request(stream)
    await stream.send_all(b"H")


@pytest.mark.parametrize("dying", [drop, reset])
async def test_a_safe_request_is_asked_again_where_a_kept_connection_died(dying):
    with trio.fail_after(10):
        async with serving_once_and(dying) as (receiver, over):
            for number in range(1, 4):
                assert await fetch(over, receiver.url()) == (200, b"ok")
                assert receiver.connections == number
            assert is_at_rest(over)


@pytest.mark.parametrize("dying", [drop, reset])
async def test_a_request_that_is_not_repeatable_is_not(dying):
    with trio.fail_after(10):
        async with serving_once_and(dying) as (receiver, over):
            assert await fetch(over, receiver.url(), "POST", content=b"a") == (200, b"ok")
            with pytest.raises(httpx.TransportError, match=r"without sending a response|reset"):
                await fetch(over, receiver.url(), "POST", content=b"a")
            assert receiver.connections == 1
            once = {"repeatable": False}
            assert await fetch(over, receiver.url()) == (200, b"ok")
            with pytest.raises(httpx.TransportError, match=r"without sending a response|reset"):
                await fetch(over, receiver.url(), extensions=once)
            assert receiver.connections == 2
            assert is_at_rest(over)


async def test_a_request_of_which_nothing_left_goes_out_on_another_connection_repeatable_or_not():
    with trio.fail_after(10):
        async with serving_once_and(silent) as (receiver, over):
            assert await fetch(over, receiver.url(), "POST") == (200, b"ok")
            [kept] = over.pool._idle
            kept._socket.shutdown(socket.SHUT_WR)  # as if it were lost between the last look and the send
            assert await fetch(over, receiver.url(), "POST") == (200, b"ok")
            assert receiver.connections == 2
            assert is_at_rest(over)


async def test_whoever_says_that_a_post_is_repeatable_has_it_repeated():
    with trio.fail_after(10):
        async with serving_once_and(drop) as (receiver, over):
            for _ in range(3):
                more = {"content": b"a", "extensions": {"repeatable": True}}
                assert await fetch(over, receiver.url(), "POST", **more) == (200, b"ok")
            target = Target.of(httpx.URL(receiver.url()))
            sink = Kept()
            await over.post(target, b"POST / HTTP/1.1\r\nContent-Length: 1\r\n", b"a", sink)
            assert (sink.status, sink.body) == (200, b"ok")
            assert receiver.connections == 4


async def test_nothing_is_asked_again_once_a_byte_of_the_answer_came():
    with trio.fail_after(10):
        async with serving_once_and(begin) as (receiver, over):
            assert await fetch(over, receiver.url()) == (200, b"ok")
            with pytest.raises(httpx.RemoteProtocolError, match="before the answer was complete"):
                await fetch(over, receiver.url())
            assert receiver.connections == 1


async def test_a_new_connection_that_dies_is_not_tried_again():
    async def dying(stream):
        await read_request(stream)

    with trio.fail_after(10):
        async with open_receiver(dying) as receiver, open_transport(SETTINGS) as over:
            with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
                await fetch(over, receiver.url())
            assert receiver.connections == 1


async def test_a_connection_on_which_something_came_unasked_is_not_used_again():
    said = trio.Event()

    async def chatty(stream):
        while await read_request(stream) is not None:
            await stream.send_all(OK)
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            said.set()

    with trio.fail_after(10):
        async with open_receiver(chatty) as receiver, open_transport(SETTINGS) as over:
            assert await fetch(over, receiver.url(), "POST", content=b"a") == (200, b"ok")
            await said.wait()
            assert await fetch(over, receiver.url(), "POST", content=b"a") == (200, b"ok")
            assert receiver.connections == 2


# Bodies that come in pieces


class Pieces(httpx.AsyncByteStream):
    def __init__(self, parts, *, ends=True):
        self.parts, self.ends, self.closed = list(parts), ends, False

    async def __aiter__(self):
        try:
            for part in self.parts:
                await trio.lowlevel.checkpoint()
                if isinstance(part, Exception):
                    raise part
                yield part
            if not self.ends:
                await trio.sleep_forever()
        finally:
            self.closed = True


def streamed(url, pieces, **headers):
    framing = headers or {"Transfer-Encoding": "chunked"}
    return httpx.Request(
        "POST", url, headers={k.replace("_", "-"): v for k, v in framing.items()}, stream=pieces
    )


async def test_a_streamed_body_is_framed_as_its_head_says():
    got = []

    async def serve(stream):
        data = b""
        while not data.endswith(b"0\r\n\r\n") and b"Content-Length: 6\r\n\r\nabcdef" not in data:
            data += await stream.receive_some(4096)
        got.append(data.partition(b"\r\n\r\n")[2])
        await stream.send_all(OK)

    with trio.fail_after(10):
        async with open_receiver(serve) as receiver, open_transport(SETTINGS) as over:
            for headers in ({}, {"Content_Length": "6"}):
                pieces = Pieces([b"abc", b"", b"def"])
                response = await over.handle_async_request(streamed(receiver.url(), pieces, **headers))
                assert await response.aread() == b"ok"
                assert pieces.closed
    assert got == [b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n", b"abcdef"]


@pytest.mark.parametrize("parts", [[b"ab"], [b"abc", b"d"]])
async def test_a_body_of_another_length_than_announced_is_refused_and_the_connection_closed(parts):
    with trio.fail_after(10):
        async with open_receiver(silent) as receiver, open_transport(SETTINGS) as over:
            with pytest.raises(httpx.LocalProtocolError, match="than announced"):
                await over.handle_async_request(streamed(receiver.url(), Pieces(parts), Content_Length="3"))
            assert is_at_rest(over)
            assert over.pool.idle == 0


async def test_a_failing_source_comes_out_as_it_is_and_closes_the_connection():
    with trio.fail_after(10):
        async with open_receiver(silent) as receiver, open_transport(SETTINGS) as over:
            for failure in (KeyError("x"), OSError("disk"), httpx.ReadError("upstream")):
                pieces = Pieces([b"a", failure])
                with pytest.raises(type(failure)):
                    await over.handle_async_request(streamed(receiver.url(), pieces))
                assert pieces.closed
            assert is_at_rest(over)


async def test_an_answer_that_comes_before_the_body_was_sent_ends_the_sending():
    async def impatient(stream):
        await stream.receive_some(10)
        await stream.send_all(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
        await trio.sleep_forever()

    with trio.fail_after(10):
        async with open_receiver(impatient) as receiver, open_transport(SETTINGS) as over:
            pieces = Pieces([b"abc"], ends=False)
            response = await over.handle_async_request(streamed(receiver.url(), pieces))
            assert (response.status_code, await response.aread()) == (413, b"no")
            assert pieces.closed
            assert (over.pool.busy, over.pool.idle) == (0, 0)
            large = request(receiver.url(), "POST", content=b"x" * 20_000_000)
            response = await over.handle_async_request(large)
            assert (response.status_code, await response.aread()) == (413, b"no")
            assert (over.pool.busy, over.pool.idle) == (0, 0)


async def test_an_answer_may_come_a_moment_after_the_peer_stopped_reading():
    near, far = socket.socketpair()
    near.setblocking(False)
    exchange = Exchange(Connection(near))

    async def refuse():
        await trio.testing.wait_all_tasks_blocked()
        far.shutdown(socket.SHUT_RD)
        far.recv(1 << 20)  # there is room again, so that the sending finds out
        await trio.testing.wait_all_tasks_blocked()
        far.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    with trio.fail_after(10), far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse)
            await exchange.send(bytes(3_000_000))
    assert (exchange.parser.status, exchange.sent, exchange.reusable) == (413, False, False)
    exchange.connection.close()


async def test_interim_answers_are_passed_over():
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" + OK
    with trio.fail_after(10):
        async with open_receiver(answering(answer)) as receiver, open_transport(SETTINGS) as over:
            for _ in range(2):
                response = await over.handle_async_request(request(receiver.url()))
                assert response.headers.raw == [(b"Content-Length", b"2")]
                assert await response.aread() == b"ok"
            assert receiver.connections == 1


async def test_a_head_request_has_no_body_and_keeps_its_connection():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
    with trio.fail_after(10):
        async with open_receiver(answering(head)) as receiver, open_transport(SETTINGS) as over:
            for _ in range(3):
                assert await fetch(over, receiver.url(), "HEAD") == (200, b"")
            assert receiver.connections == 1


async def test_who_does_not_read_holds_up_the_server_and_nobody_else():
    sent = 0

    async def flood(stream):
        nonlocal sent
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 65536)
            sent += 65536

    with trio.fail_after(10):
        async with open_receiver(flood) as receiver, open_transport(SETTINGS) as over:
            response = await over.handle_async_request(request(receiver.url()))
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert sent < 30_000_000
            await response.aclose()
            await receiver.all_closed.wait()
            assert is_at_rest(over)


@pytest.mark.parametrize(
    ("wait", "serve"),
    [
        ("read", saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")),
        ("read", None),
        ("write", None),
    ],
)
async def test_a_wait_for_the_peer_ends_with_its_time(wait, serve):
    async def stalling(stream):
        if serve is not None:
            await serve(stream)
        if wait == "read":
            await silent(stream)
        await trio.testing.wait_all_tasks_blocked(0.1)  # reads nothing, then closes

    expected = httpx.ReadTimeout if wait == "read" else httpx.WriteTimeout
    content = b"" if wait == "read" else b"x" * 20_000_000
    with trio.fail_after(10):
        async with open_receiver(stalling) as receiver, open_transport(SETTINGS) as over:
            extensions = {"timeout": {wait: 0.05}}
            with pytest.raises(expected, match="for 50 ms"):
                await fetch(over, receiver.url(), "POST", content=content, extensions=extensions)
            await receiver.all_closed.wait()
            assert is_at_rest(over)


# At every byte


@pytest.mark.parametrize("answer", [OK, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("how", ["close", "reset", "stall"])
async def test_an_answer_that_ends_at_any_byte_fails_in_words_and_leaks_nothing(answer, how):
    place = 0

    async def serve(stream):
        await read_request(stream)
        if place:
            await stream.send_all(answer[:place])
        if how == "stall":
            await silent(stream)
        if how == "reset":
            await trio.testing.wait_all_tasks_blocked()
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    with trio.fail_after(60):
        async with open_receiver(serve) as receiver, open_transport(SETTINGS) as over:
            for place in range(len(answer)):  # noqa: B007 - the server reads it
                extensions = {"timeout": {"read": 0.01}} if how == "stall" else {}
                with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout)) as caught:
                    await fetch(over, receiver.url(), "POST", content=b"a", extensions=extensions)
                assert str(caught.value)
                assert is_at_rest(over)
                assert over.pool.idle == 0
            if receiver.open:
                await receiver.all_closed.wait()


# Cancelling


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from(["plain", "streamed", "unread", "post"])),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 3),
)
def test_cancelling_anything_at_any_moment_leaks_nothing(calls, per_host):
    async def main():
        async def serve(stream):
            while True:
                data = b""
                while not data.endswith((b"0\r\n\r\n", b"\r\n\r\n", b"body")):
                    more = await stream.receive_some(4096)
                    if not more:
                        return
                    data += more
                for place in range(0, len(CHUNKED), 9):
                    await stream.send_all(CHUNKED[place : place + 9])
                    await trio.lowlevel.checkpoint()

        limits = Limits(per_host=per_host, in_all=2)
        async with open_receiver(serve) as receiver, open_transport(SETTINGS, limits=limits) as over:
            url = receiver.url()

            async def call(checkpoints, kind):
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(cancel, checkpoints, scope)
                        if kind == "plain":
                            await fetch(over, url)
                        elif kind == "unread":
                            response = await over.handle_async_request(request(url))
                            await response.aclose()
                        elif kind == "post":
                            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
                            await over.post(Target.of(httpx.URL(url)), head, b"body", Kept())
                        else:
                            response = await over.handle_async_request(streamed(url, Pieces([b"a", b"b"])))
                            await response.aread()
                        nursery.cancel_scope.cancel()

            async def cancel(checkpoints, scope):
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    for checkpoints, kind in calls:
                        nursery.start_soon(call, checkpoints, kind)
                assert is_at_rest(over)
                assert await fetch(over, url) == (200, b"ok")
                assert is_at_rest(over)
                over.pool.expire(float("inf"))
                assert (over.pool.idle, over.pool.hosts) == (0, 0)
                if receiver.open:
                    await receiver.all_closed.wait()

    trio.run(main)


# Many hosts


async def test_thousands_of_hosts_are_kept_found_and_expired():
    count = 2000
    resolve = names(**{f"h{n}__example": ["127.0.0.1"] for n in range(count)})
    with trio.fail_after(60):
        async with (
            open_receiver(answering(OK)) as receiver,
            open_transport(SETTINGS, resolve=resolve, limits=Limits(in_all=64)) as over,
        ):
            for _ in range(2):
                hosts = iter(range(count))

                async def work(hosts=hosts):
                    for n in hosts:
                        assert await fetch(over, receiver.url(f"h{n}.example")) == (200, b"ok")

                async with trio.open_nursery() as nursery:
                    for _ in range(64):
                        nursery.start_soon(work)
                assert (over.pool.hosts, over.pool.idle, receiver.connections) == (count, count, count)
            over.pool.expire(float("inf"))
            assert (over.pool.hosts, over.pool.idle) == (0, 0)
            await receiver.all_closed.wait()


async def test_a_pool_may_be_shared_and_its_trust_classes_stay_apart():
    from econeura_daemon.wire import EgressGuard, GuardedTransport
    from econeura_daemon.wire.connect import Connector
    from tests.support.receivers import LOOPBACK

    pool = Pool()
    with trio.fail_after(10):
        async with open_receiver(answering(OK)) as receiver:
            first, second = (
                GuardedTransport(Connector(EgressGuard(LOOPBACK), names()), pool=pool) for _ in range(2)
            )
            for over in (first, second, first, second):
                assert await fetch(over, receiver.url()) == (200, b"ok")
            assert (receiver.connections, pool.idle, pool.hosts) == (2, 2, 2)
            first.use(EgressGuard(LOOPBACK))
            assert (pool.idle, pool.hosts) == (1, 1)
            pool.close()
            await receiver.all_closed.wait()
