"""Resets, ends and stalls at every byte of a TLS connection: of the handshake, of a request, of an answer."""

import logging
import ssl
from contextlib import suppress

import pytest
import trio

from econeura_daemon.server import HotRoute
from tests.http.server_rig import PATIENCE, Client, descriptors_for, request, serving
from tests.http.test_http1_interrupted import close, half_close, hot, nothing_is_left, reset

HOT = {("POST", "/hot"): HotRoute(hot, "/hot")}
REQUEST = request("/hot", body=b"0123456789")


@pytest.fixture(scope="module")
def context(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class UsedUpError(Exception):
    """As many bytes as may be were sent, or read."""


class Metered(trio.abc.Stream):
    """A stream that passes on so many bytes in each direction, and then none."""

    def __init__(self, stream, sends=10**9, reads=10**9):
        self.stream = stream
        self.sent = self.read = 0
        self._sends = sends
        self._reads = reads

    async def send_all(self, data):
        passed = data[: self._sends - self.sent]
        self.sent += len(passed)
        await self.stream.send_all(passed)
        if len(passed) < len(data) or self.sent == self._sends:
            raise UsedUpError

    async def wait_send_all_might_not_block(self):
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes=None):
        if self.read == self._reads:
            raise UsedUpError
        data = await self.stream.receive_some(min(max_bytes or 65536, self._reads - self.read))
        self.read += len(data)
        return data

    async def aclose(self):
        await trio.aclose_forcefully(self.stream)


async def talk(metered, context):
    """Shake hands, ask, and read the answer, as far as the meter allows."""
    stream = trio.SSLStream(metered, context, server_hostname="localhost", https_compatible=True)
    with suppress(UsedUpError):
        await stream.do_handshake()
        client = Client(stream)
        await client.send(REQUEST)
        assert (await client.answer()).body == b"0123456789"


async def converse(rig, context, **limits):
    metered = Metered(await rig.connect(), **limits)
    await talk(metered, context)
    return metered


async def well(rig, context):
    stream = trio.SSLStream(await rig.connect(), context, server_hostname="localhost", https_compatible=True)
    async with Client(stream) as client:
        await client.send(request("/hot", body=b"well"))
        assert (await client.answer()).body == b"well"


ENDS = [reset, close, half_close]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("limit", ["sends", "reads"], ids=["of what it sent", "of what it read"])
@pytest.mark.rounds(short=3, soak=1)
async def test_an_end_at_any_byte_of_a_tls_connection_harms_nobody(end, limit, pem, context, caplog, rounds):
    """``rounds``: the step from one place to the next; the three ends take turns, so every byte has one of them."""
    async with serving(
        hot=HOT, tls_certificate=pem, max_connections=5000, max_connections_per_peer=5000
    ) as rig:
        whole = await converse(rig, context)
        await trio.aclose_forcefully(whole)
        await rig.wait_for_connections(0)
        before = trio.lowlevel.current_statistics().tasks_living
        total = whole.sent if limit == "sends" else whole.read
        assert total > 600
        for offset in range(1 + ENDS.index(end) % rounds, total, rounds):
            metered = await converse(rig, context, **{limit: offset})
            ended = end(metered.stream)
            if ended is not None:
                await ended
                metered.stream.socket.close()
            if offset // rounds % 50 == 0:
                await well(rig, context)
        await well(rig, context)
        await nothing_is_left(rig, before)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_stall_at_any_byte_of_what_is_sent_over_tls_ends_in_time(pem, context):
    limits = {"head_timeout_ms": 400, "body_timeout_ms": 400, "keep_alive_timeout_ms": 400}
    async with serving(
        hot=HOT, tls_certificate=pem, max_connections=5000, max_connections_per_peer=5000, **limits
    ) as rig:
        whole = await converse(rig, context)
        await trio.aclose_forcefully(whole)
        with descriptors_for(whole.sent):
            stalled = []
            for offset in range(1, whole.sent):
                stalled.append(Metered(await rig.connect(), sends=offset))
                with suppress(trio.BrokenResourceError):  # on a slow machine its time may be over by now
                    await talk(stalled[-1], context)
            await well(rig, context)
            for metered in stalled:
                # What arrives after the end is answered by a reset.
                with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
                    while await metered.stream.receive_some(65536):
                        pass
                metered.stream.socket.close()
        await rig.wait_for_connections(0)


async def test_a_reader_that_stops_in_an_answer_over_tls_is_given_up_after_the_send_timeout(pem, context):
    async with serving(tls_certificate=pem, send_timeout_ms=200) as rig:
        stream = trio.SSLStream(
            await rig.connect(), context, server_hostname="localhost", https_compatible=True
        )
        async with Client(stream) as client:
            await client.send(request("/flood"))
            with trio.fail_after(PATIENCE):
                await rig.app.cancelled.wait()
            await rig.wait_for_connections(0)
