"""TLS: HTTP/1.1 by our own connections, HTTP/2 by Hypercorn, both behind the same rules."""

import ssl

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from econeura_daemon.core.errors import SettingsError
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server import open_listeners
from tests.http.server_rig import PATIENCE, App, Client, request, serving


async def connect(rig, authority, protocols=("http/1.1",)):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(list(protocols))
    stream = trio.SSLStream(await rig.connect(), context, server_hostname="localhost", https_compatible=True)
    await stream.do_handshake()
    return stream


class H2Client:
    """As much of an HTTP/2 client as the tests need."""

    def __init__(self, stream):
        self.stream = stream
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()

    async def ask(self, path, *, method="GET", body=b"", host="localhost"):
        number = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":path", path), (":scheme", "https"), (":authority", host)]
        self.h2.send_headers(number, head, end_stream=not body)
        if body:
            self.h2.send_data(number, body, end_stream=True)
        await self.stream.send_all(self.h2.data_to_send())
        return number

    async def answer(self, number):
        headers, content = {}, b""
        with trio.fail_after(PATIENCE):
            while True:
                for event in self.h2.receive_data(await self.stream.receive_some(65536)):
                    if isinstance(event, h2.events.ResponseReceived):
                        headers = dict(event.headers)
                    elif isinstance(event, h2.events.DataReceived):
                        content += event.data
                    elif isinstance(event, h2.events.StreamEnded) and event.stream_id == number:
                        return headers, content


async def test_http_1_under_tls_is_served_by_our_own_connections(authority, pem):
    async with serving(tls_certificate=pem) as rig:
        assert rig.server.urls[0].startswith("https://")
        async with Client(await connect(rig, authority)) as client:
            await client.send(request(body=b"one") + request(body=b"x" * 300_000))
            assert (await client.answer()).body == b"one"
            assert (await client.answer()).body == b"x" * 300_000
            await client.send(b"nonsense\r\n\r\n")
            assert (await client.answer()).status == 400


async def test_a_websocket_offer_with_bytes_behind_it_is_an_ordinary_request_under_tls_too(authority, pem):
    async with serving(tls_certificate=pem) as rig:
        async with Client(await connect(rig, authority)) as client:
            await client.send(
                request("/blind", headers="Upgrade: websocket\r\nConnection: Upgrade\r\n") + b"x"
            )
            assert (await client.answer()).body == b"ok"
        async with Client(await connect(rig, authority)) as client:
            await client.send(request("/blind"))
            assert (await client.answer()).body == b"ok"


async def test_http_2_goes_through_the_same_rules(authority, pem):
    async with serving(tls_certificate=pem) as rig:
        stream = await connect(rig, authority, ("h2",))
        client = H2Client(stream)
        headers, body = await client.answer(await client.ask("/echo", method="POST", body=b"x" * 1000))
        assert (headers[":status"], body) == ("200", b"x" * 1000)
        assert headers["x-request-id"]
        headers, _ = await client.answer(await client.ask("/echo", host="evil.example"))
        assert headers[":status"] == "421"
        await trio.aclose_forcefully(stream)


async def test_an_http_2_client_that_leaves_cancels_its_handler(authority, pem):
    app = App()
    async with serving(app, tls_certificate=pem) as rig:
        stream = await connect(rig, authority, ("h2",))
        await H2Client(stream).ask("/stream")
        with trio.fail_after(PATIENCE):
            await app.entered.wait()
            await trio.aclose_forcefully(stream)
            await rig.wait_for_connections(0)


async def test_an_http_2_client_that_reads_nothing_does_not_hang_the_drain(authority, pem):
    app = App()
    with trio.fail_after(PATIENCE):
        async with serving(app, tls_certificate=pem, drain_timeout_ms=200) as rig:
            stream = await connect(rig, authority, ("h2",))
            client = H2Client(stream)
            client.h2.increment_flow_control_window(2**31 - 1 - 65535)
            await client.ask("/flood")
            await app.entered.wait()
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xff", b""])
async def test_what_is_no_handshake_is_closed_and_harms_nobody(first, authority, pem):
    async with serving(tls_certificate=pem, head_timeout_ms=300) as rig:
        async with Client(await rig.connect()) as client:
            if first:
                await client.send(first)
            with trio.fail_after(PATIENCE):
                try:
                    while await client.stream.receive_some(1000):
                        pass
                except trio.BrokenResourceError:
                    pass
        async with Client(await connect(rig, authority)) as client:
            await client.send(request("/blind"))
            assert (await client.answer()).body == b"ok"


async def test_a_certificate_that_cannot_be_used_is_told_before_anything_is_opened(tmp_path):
    wrong = tmp_path / "wrong.pem"
    for certificate, key in ((str(wrong), None), (None, str(wrong))):
        with pytest.raises(SettingsError, match="tls_"):
            open_listeners(
                HttpSettings(bind=("127.0.0.1:0",), tls_certificate=certificate, tls_key=key),
                {},
                has_tokens=False,
            )
    wrong.write_text("no certificate")
    with pytest.raises(SettingsError, match="cannot be used"):
        open_listeners(HttpSettings(bind=("127.0.0.1:0",), tls_certificate=str(wrong)), {}, has_tokens=False)
