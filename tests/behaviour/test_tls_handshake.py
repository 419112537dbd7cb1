"""The handshake of outgoing connections: what is verified, what is told to whom, and what comes along with it."""

import socket
import ssl

import httpx
import pytest
import trio
import trio.testing

from econeura_daemon.wire.connect import Connector
from econeura_daemon.wire.egress import EgressGuard
from econeura_daemon.wire.tls import TlsConnection
from tests.support.authority import Peer, calling, server_context, trusting
from tests.support.receivers import LOOPBACK, OK, names, read_request


async def test_what_comes_with_the_last_of_the_handshake_is_read():
    context = server_context("hook.example")
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # there the last word is the server's

    async def eager(stream):
        peer = Peer(context)
        await peer.shake_hands(stream)
        peer.tls.write(OK)
        await stream.send_all(peer.outward.read())
        await stream.receive_some(1)
        await trio.sleep_forever()

    with trio.fail_after(10):
        async with calling(eager) as (post, _, _):
            assert await post() == (200, b"ok")


async def test_a_refusal_after_the_handshake_is_told_in_the_peers_words():
    context = server_context("hook.example")
    context.verify_mode = ssl.CERT_REQUIRED

    with trio.fail_after(10):
        async with calling(lambda stream: Peer(context).shake_hands(stream)) as (post, over, _):
            with pytest.raises(
                httpx.ReadError, match=r"TLS failed before .*: tlsv13 alert certificate required"
            ):
                await post()
            assert (over.pool.busy, over.pool.idle) == (0, 0)


async def test_why_a_certificate_was_refused_is_told_though_the_peer_is_gone():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    connection = TlsConnection(near, trusting(), "other.example")

    async def leave_after_the_first_flight():
        await trio.lowlevel.wait_readable(far)
        peer = Peer(server_context("hook.example"))
        peer.inward.write(far.recv(65536))
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.do_handshake()
        far.send(peer.outward.read())
        far.close()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_after_the_first_flight)
            with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.example"):
                await connection.shake_hands()
    connection.close()


async def test_why_it_was_refused_is_told_to_the_peer_too():
    heard = []

    async def serve(stream):
        try:
            await Peer(server_context("other.example")).shake_hands(stream)
        except ssl.SSLError as error:
            heard.append(error.reason)

    with trio.fail_after(10):
        async with calling(serve) as (post, _, receiver):
            with pytest.raises(httpx.ConnectError, match="does not verify"):
                await post()
            if receiver.open:
                await receiver.all_closed.wait()
    assert heard
    assert "CERTIFICATE" in heard[0]


@pytest.mark.parametrize("moment", range(12))
async def test_cancelling_in_the_handshake_closes_the_connection(moment):
    context = server_context("hook.example")

    async def serve(stream):
        while await read_request(stream) is not None:
            await stream.send_all(OK)

    async def cancel(scope):
        for _ in range(moment):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    with trio.fail_after(10):
        async with calling(serve, context) as (post, over, receiver):
            assert await post() == (200, b"ok")  # the context is made
            over.pool.expire(float("inf"))
            await receiver.all_closed.wait()
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    nursery.start_soon(cancel, scope)
                    await post()
            over.pool.expire(float("inf"))
            assert (over.pool.busy, over.pool.idle, over.pool.hosts) == (0, 0, 0)
            if receiver.open:
                await receiver.all_closed.wait()


async def test_a_peer_cannot_ask_for_another_handshake():
    """Else a send would have to wait for the peer's word, and would say so without end."""
    context = await Connector(EgressGuard(LOOPBACK), names(), trusting).context()
    assert context.options & ssl.OP_NO_RENEGOTIATION
