"""Outgoing connections under TLS, after the handshake: what the peer's words between and its end mean."""

import os
import socket
import ssl

import httpx
import pytest
import trio
import trio.testing

from econeura_daemon.wire import AnswerCutError, Target, open_transport
from econeura_daemon.wire.exchange import Exchange
from econeura_daemon.wire.tls import SEALED_AT_ONCE, TlsConnection
from tests.support.authority import BODY, HEAD, Peer, calling, server_context, trusting
from tests.support.receivers import OK, SETTINGS, Kept, names, open_receiver, read_request


class Rekeying:
    """In OpenSSL's place: seals nothing, and answers a K that it reads as one answers new keys."""

    def __init__(self, inward, outward):
        self.inward, self.outward = inward, outward

    def write(self, data):
        return self.outward.write(data)

    def read(self, _size):
        first = self.inward.read(1)
        if first in {b"", b"K"}:
            self.outward.write(first)
            raise ssl.SSLWantReadError
        return first + self.inward.read()

    def pending(self):
        return 0

    def unwrap(self):
        self.outward.write(b"bye")


async def test_a_record_may_be_read_in_parts():
    async def serve(stream):
        await stream.receive_some(100)
        await stream.send_all(OK)
        await stream.receive_some(100)

    with trio.fail_after(10):
        async with calling(serve, server_context("hook.example")) as (_, over, receiver):
            target = Target.of(httpx.URL(receiver.url("hook.example", "https")))
            connection = await over.connect(target, 5)
            assert connection.send_now(BODY) == len(BODY)
            assert (
                b"".join([await connection.receive(3) for _ in range(len(OK) // 3)]) == OK[: len(OK) // 3 * 3]
            )
            connection.close()


def unsealed_pair():
    """Return a connection that seals nothing, and the socket at its other end."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    connection = TlsConnection(near, trusting(), "hook.example")
    connection._tls = Rekeying(connection._in, connection._out)
    return connection, far


@pytest.mark.parametrize("size", [SEALED_AT_ONCE, 3 * SEALED_AT_ONCE])
async def test_the_last_that_was_sealed_is_sent_too(size):
    connection, far = unsealed_pair()
    got = 0

    async def serve():
        nonlocal got
        async with trio.SocketStream(trio.socket.from_stdlib_socket(far)) as stream:
            while got < size:
                await trio.testing.wait_all_tasks_blocked()
                got += len(await stream.receive_some(SEALED_AT_ONCE))
            await stream.send_all(OK)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            exchange = Exchange(connection)
            await exchange.send(bytes(size))
            assert exchange.sent
            await exchange.head()
            connection.close()
    assert got == size


async def test_an_idle_connection_hears_of_new_keys_and_of_nothing_else():
    connection, far = unsealed_pair()
    assert connection.is_quiet()
    far.send(b"K")
    assert connection.is_quiet()
    far.send(b"HTTP/1.1 408 T")
    assert not connection.is_quiet()
    connection.close()
    far.close()


@pytest.mark.parametrize("records", [1, 2], ids=["in the same record", "in another"])
async def test_what_came_unasked_behind_an_answer_spoils_the_connection(records):
    context = server_context("hook.example")
    unasked = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"

    async def chatty(stream):
        peer = Peer(context)
        await peer.shake_hands(stream)
        assert peer.tls.read(65536)  # it came with the last of the handshake
        for one in [OK + unasked] if records == 1 else [OK, unasked]:
            peer.tls.write(one)
        await stream.send_all(peer.outward.read())
        await stream.receive_some(1)

    with trio.fail_after(10):
        async with calling(chatty) as (post, over, receiver):
            over._max_answer_bytes = len(OK)  # not a byte behind it is read
            for number in range(1, 4):
                assert await post() == (200, b"ok")
                assert over.pool.idle == 1
                assert receiver.connections == number


async def test_an_answer_is_read_though_the_peer_takes_no_more():
    connection, far = unsealed_pair()
    far.send(b"K" + OK)
    far.close()
    with trio.fail_after(10):
        assert await connection.receive(100) == OK
    connection.close()


async def test_new_keys_are_answered_also_while_a_request_is_stuck():
    connection, far = unsealed_pair()
    body = bytes(3_000_000)
    got = bytearray()

    async def serve():
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(far))
        async with stream:
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(b"K")
            await trio.testing.wait_all_tasks_blocked()
            while len(got) < len(body) + 1:
                got.extend(await stream.receive_some(1 << 20))
                assert len(connection._rest) <= SEALED_AT_ONCE + 1
            await stream.send_all(b"K")
            got.extend(await stream.receive_some(10))
            await stream.send_all(OK)
            async for more in stream:
                got.extend(more)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            exchange = Exchange(connection)
            await exchange.send(body)
            await exchange.head()
            assert exchange.parser.status == 200
            assert await exchange.more() == b"ok"
            assert exchange.reusable
            connection.close()
    assert got.replace(b"\0", b"") == b"KKbye"


# The end


async def test_an_answer_that_the_end_of_the_connection_ends_must_be_ended_by_tls():
    """RFC 9112 9.8: else anybody on the way could cut it."""
    answer = b"HTTP/1.1 200 OK\r\n\r\nhalf of it"

    async def serve(stream):
        await read_request(stream)
        await stream.send_all(answer)
        if clean:
            await stream.unwrap()

    async def fetch(over, url):
        kept = Kept()
        await over.post(Target.of(httpx.URL(url)), HEAD, BODY, kept)
        return kept.body

    with trio.fail_after(10):
        async with (
            open_receiver(serve, context=server_context("hook.example")) as receiver,
            open_transport(
                SETTINGS, resolve=names(hook__example=["127.0.0.1"]), make_context=trusting
            ) as over,
        ):
            url = receiver.url("hook.example", "https")
            clean = True
            assert await fetch(over, url) == b"half of it"
            clean = False
            with pytest.raises(AnswerCutError, match="close_notify"):
                await fetch(over, url)
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nall of it."
            assert await fetch(over, url) == b"all of it."


async def test_a_connection_under_tls_is_taken_leave_of():
    left = []

    async def serve(stream):
        strict = trio.SSLStream(
            stream, server_context("hook.example"), server_side=True
        )  # not https_compatible
        while await read_request(strict) is not None:
            await strict.send_all(OK)
        left.append("in peace")

    with trio.fail_after(10):
        async with (
            open_receiver(serve) as receiver,
            open_transport(
                SETTINGS, resolve=names(hook__example=["127.0.0.1"]), make_context=trusting
            ) as over,
        ):
            target = Target.of(httpx.URL(receiver.url("hook.example", "https")))
            await over.post(target, HEAD, BODY, Kept())
            over.pool.expire(float("inf"))
            await receiver.all_closed.wait()
    assert left == ["in peace"]


async def test_large_bodies_cross_under_tls_both_ways_with_slow_readers():
    body = os.urandom(3_000_000)

    async def serve(stream):
        got = b""
        while not got.endswith(b"the end"):
            await trio.lowlevel.checkpoint()
            got += await stream.receive_some(10_000)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 50_000):
            await stream.send_all(body[start : start + 50_000])
        assert got.partition(b"\r\n\r\n")[2] == body + b"the end"
        await stream.receive_some(1)

    with trio.fail_after(30):
        async with (
            open_receiver(serve, context=server_context("hook.example")) as receiver,
            open_transport(
                SETTINGS, resolve=names(hook__example=["127.0.0.1"]), make_context=trusting
            ) as over,
        ):
            over._max_answer_bytes = None
            request = httpx.Request("POST", receiver.url("hook.example", "https"), content=body + b"the end")
            response = await over.handle_async_request(request)
            assert await response.aread() == body
            assert (over.pool.busy, over.pool.idle) == (0, 1)
