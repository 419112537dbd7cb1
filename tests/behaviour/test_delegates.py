"""HTTP/2 and proxies, for the hosts that are named: as guarded, bounded and tidy as the rest."""

import base64
import ssl
from contextlib import asynccontextmanager

import attrs
import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import trio
import trio.testing
import trustme

from econeura_daemon.core.errors import EgressRefusedError
from econeura_daemon.wire import AnswerTooLargeError, EgressGuard, Routes, Target, open_transport
from tests.http.server_rig import answer, read_body, serving
from tests.support.receivers import LOOPBACK, OK, SETTINGS, answering, names, open_receiver, read_request

pytestmark = pytest.mark.filterwarnings(
    # httpx and httpcore leave their generators to the garbage collector where an answer is not read to its end.
    "ignore:Async generator 'http:ResourceWarning"
)

AUTHORITY = trustme.CA()
HEAD = b"POST /hook HTTP/1.1\r\nHost: %b\r\nContent-Length: 2\r\nwebhook-id: evt_1\r\n"


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    AUTHORITY.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


def trusting():
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def server_context(*protocols, host="hook.example"):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert(host).configure_cert(context)
    context.set_alpn_protocols(list(protocols))
    return context


@asynccontextmanager
async def calling(*, resolve=None, **settings):
    resolve = resolve or names(hook__example=["127.0.0.1"], localhost=["127.0.0.1"])
    using = attrs.evolve(SETTINGS, **settings)
    async with open_transport(using, resolve=resolve, make_context=trusting) as over:
        yield over
        if over.delegates is not None:
            assert over.delegates.busy == 0
        assert over.pool.busy == 0


@attrs.define
class Kept:
    status: int = 0
    body: bytes = b""
    headers: list = attrs.field(factory=list)
    enough: int = 1 << 30

    def begin(self, status, headers):
        self.status, self.headers = status, headers

    def add(self, part):
        self.body += part
        return len(self.body) < self.enough


async def post(over, url, **sink):
    kept, url = Kept(**sink), httpx.URL(url)
    await over.post(Target.of(url), HEAD % url.netloc, b"{}", kept, connect_timeout=5)
    return kept.status, kept.body


async def fetch(over, url, **more):
    request = httpx.Request("POST", url, content=b"{}", **more)
    response = await over.handle_async_request(request)
    try:
        return response.status_code, b"".join([part async for part in response.stream])
    finally:
        await response.aclose()


# HTTP/2


class Echo:
    """Says by which protocol it was asked, and what."""

    def __init__(self):
        self.headers = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return
        self.headers.append(dict(scope["headers"]))
        body = await read_body(receive)
        await answer(send, scope["http_version"].encode() + b" " + body)


async def test_a_named_host_is_called_in_http_2_and_no_other(pem):
    app = Echo()
    with trio.fail_after(20):
        async with serving(app, tls_certificate=pem) as rig:
            url = f"https://localhost:{rig.port}/hook"
            async with calling(http2_hosts=("localhost",)) as over:
                assert await post(over, url) == (200, b"2 {}")
                assert await fetch(over, url) == (200, b"2 {}")
                got = []

                async def one():
                    got.append(await post(over, url))

                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(one)
                assert got == [(200, b"2 {}")] * 20
                assert rig.server.connections == 1
            assert app.headers[0][b"webhook-id"] == b"evt_1"
            async with calling(http2_hosts=("*.localhost", "other.example")) as over:
                assert await post(over, url) == (200, b"1.1 {}")
                assert over.delegates.hosts == 0


async def test_a_server_that_takes_no_http_2_and_a_url_without_tls_are_spoken_to_in_http_1():
    asked = []
    with trio.fail_after(20):
        async with calling(http2_hosts=("*",)) as over:
            context = server_context("http/1.1")
            async with open_receiver(answering(OK, asked), context=context) as receiver:
                for _ in range(3):
                    assert await post(over, receiver.url("hook.example", "https")) == (200, b"ok")
                assert receiver.connections == 1
                await over.delegates.sweep(float("inf"))
            async with open_receiver(answering(OK, asked)) as receiver:
                assert await post(over, receiver.url("hook.example")) == (200, b"ok")
            assert over.pool.idle == 1
    assert {lines[0] for lines, _ in asked} == {"POST /hook HTTP/1.1"}


@asynccontextmanager
async def open_peer(behave):
    """An HTTP/2 server that calls ``behave(h2, stream, number, n)`` for the nth request of a connection."""

    async def serve(stream):
        await stream.do_handshake()
        peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        peer.initiate_connection()
        asked = 0
        while True:
            await stream.send_all(peer.data_to_send())
            data = await stream.receive_some(65536)
            if not data:
                return
            for event in peer.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, h2.events.StreamEnded):
                    asked += 1
                    if await behave(peer, stream, event.stream_id, asked) == "close":
                        return

    async with open_receiver(serve, context=server_context("h2")) as receiver:
        yield receiver


def secure(peer):
    return peer.url("hook.example", "https")


def say(peer, number, body=b"ok"):
    peer.send_headers(number, [(":status", "200")])
    peer.send_data(number, body, end_stream=True)


async def well(peer, stream, number, n):
    say(peer, number)


async def test_the_addresses_of_a_host_that_is_called_in_http_2_are_checked_and_the_checked_one_is_connected_to():
    answers = [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["127.0.0.1"]]
    asked = []

    async def rebinding(host):
        asked.append(host)
        return await names(hook__example=answers[len(asked) - 1])(host)

    with trio.fail_after(20):
        async with open_peer(well) as peer, calling(http2_hosts=("*",), resolve=rebinding) as over:
            assert await post(over, secure(peer)) == (200, b"ok")
            assert await post(over, secure(peer)) == (200, b"ok")
            assert asked == ["hook.example"]
            over.use(EgressGuard(LOOPBACK))
            with pytest.raises(EgressRefusedError, match=r"10\.0\.0\.1"):
                await post(over, secure(peer))
            over.use(EgressGuard())
            with pytest.raises(EgressRefusedError, match=r"127\.0\.0\.1"):
                await post(over, secure(peer))
            with pytest.raises(EgressRefusedError, match=r"127\.0\.0\.1"):
                await post(over, f"https://127.0.0.1:{peer.port}/")
            assert peer.connections == 1


async def test_the_certificate_is_verified_for_the_name_and_what_fails_is_said_in_words():
    with trio.fail_after(20):
        async with open_peer(well) as peer, calling(http2_hosts=("*",)) as over:
            with pytest.raises(
                httpx.ConnectError, match="TLS with localhost failed: its certificate does not"
            ):
                await post(over, f"https://localhost:{peer.port}/")
        async with calling(http2_hosts=("*",)) as over:
            with pytest.raises(httpx.ConnectError, match=f"connection refused by 127.0.0.1:{peer.port}"):
                await post(over, secure(peer))
            with pytest.raises(httpx.ConnectError, match="cannot be resolved"):
                await post(over, "https://other.example/")


async def test_the_connecting_has_one_time_limit_tls_included():
    async def mute(stream):
        await trio.sleep_forever()

    with trio.fail_after(20):
        async with open_receiver(mute) as receiver, calling(http2_hosts=("*",)) as over:
            target = Target.of(httpx.URL(receiver.url("hook.example", "https")))
            with pytest.raises(httpx.ConnectTimeout, match="handshake"):
                await over.post(target, HEAD % b"a", b"{}", Kept(), connect_timeout=0.05)


@pytest.mark.parametrize("sort", ["too large", "enough"])
async def test_an_answer_is_bounded_and_what_is_left_of_it_holds_up_no_other(sort):
    async def flood(peer, stream, number, n):
        peer.send_headers(number, [(":status", "200")])
        while peer.local_flow_control_window(number) > 16384 and peer.streams[number].open:
            peer.send_data(number, b"x" * 16384)
            await stream.send_all(peer.data_to_send())

    with trio.fail_after(20):
        async with open_peer(flood) as peer, calling(http2_hosts=("*",)) as over:
            for _ in range(4):
                if sort == "enough":
                    status, body = await post(over, secure(peer), enough=20_000)
                    assert (status, 20_000 <= len(body) <= 65536) == (200, True)
                else:
                    kept = Kept()
                    with pytest.raises(AnswerTooLargeError, match="65536 bytes"):
                        await over.post(Target.of(httpx.URL(secure(peer))), HEAD % b"a", b"{}", kept)
                    assert len(kept.body) == 65536
                assert (over.delegates.busy, over.delegates.hosts) == (0, 0)
            assert peer.connections == 4
            if peer.open:
                await peer.all_closed.wait()


async def test_an_answer_as_large_as_allowed_is_read():
    async def large(peer, stream, number, n):
        peer.send_headers(number, [(":status", "200")])
        for _ in range(4):
            peer.send_data(number, b"x" * 16384)
            await stream.send_all(peer.data_to_send())
            while peer.local_flow_control_window(number) < 16384:
                peer.receive_data(await stream.receive_some(65536))
        peer.end_stream(number)

    with trio.fail_after(20):
        async with open_peer(large) as peer, calling(http2_hosts=("*",)) as over:
            for _ in range(2):
                assert await post(over, secure(peer)) == (200, b"x" * 65536)
            assert peer.connections == 1


@pytest.mark.parametrize("dying", ["close", "goaway", "reset"])
async def test_a_kept_connection_that_died_is_replaced_and_asked_again_only_what_may_be(dying):
    async def once(peer, stream, number, n):
        if n == 1:
            say(peer, number)
            return None
        if dying == "goaway":
            peer.close_connection(last_stream_id=number)
            await stream.send_all(peer.data_to_send())
        elif dying == "reset":
            peer.reset_stream(number)
            return None
        return "close"

    with trio.fail_after(20):
        async with open_peer(once) as peer, calling(http2_hosts=("*",)) as over:
            for connections in (1, 2, 3):
                assert await post(over, secure(peer)) == (200, b"ok")
                assert peer.connections == connections
            with pytest.raises(httpx.RemoteProtocolError):
                await fetch(over, secure(peer))
            assert peer.connections == 3
            assert await fetch(over, secure(peer)) == (200, b"ok")


async def test_what_the_server_says_it_has_not_seen_is_asked_again_whatever_it_is():
    async def leaving(peer, stream, number, n):
        if n == 1:
            say(peer, number)
            return None
        peer.close_connection(last_stream_id=1)  # RFC 9113 6.8
        await stream.send_all(peer.data_to_send())
        return "close"

    with trio.fail_after(20):
        async with open_peer(leaving) as peer, calling(http2_hosts=("*",)) as over:
            for connections in (1, 2, 3):
                assert await fetch(over, secure(peer)) == (200, b"ok")
                assert peer.connections == connections


async def test_cancelling_at_any_moment_leaves_nothing_under_way():
    async def slow(peer, stream, number, n):
        peer.send_headers(number, [(":status", "200")])
        for _ in range(3):
            peer.send_data(number, b"abc")
            await stream.send_all(peer.data_to_send())
            await trio.testing.wait_all_tasks_blocked()
        peer.end_stream(number)

    with trio.fail_after(60):
        async with open_peer(slow) as peer, calling(http2_hosts=("*",)) as over:
            cut = 0
            for checkpoints in range(0, 120, 3):
                async with trio.open_nursery() as nursery:

                    async def call(scope=nursery.cancel_scope):
                        await post(over, secure(peer))
                        scope.cancel()

                    nursery.start_soon(call)
                    for _ in range(checkpoints):
                        await trio.lowlevel.checkpoint()
                    cut += not nursery.cancel_scope.cancel_called
                    nursery.cancel_scope.cancel()
                assert over.delegates.busy == 0
                assert await post(over, secure(peer)) == (200, b"abcabcabc")
            assert cut > 10
            await over.delegates.sweep(float("inf"))
            assert over.delegates.hosts == 0
            if peer.open:
                await peer.all_closed.wait()


async def test_idle_connections_end_with_their_time_and_with_the_transport():
    with trio.fail_after(20):
        async with open_peer(well) as peer:
            async with calling(http2_hosts=("*",)) as over:
                assert await post(over, secure(peer)) == (200, b"ok")
                await over.drop_idle(trio.current_time() - 1)
                assert over.delegates.hosts == 1
                await over.drop_idle(trio.current_time())
                await peer.all_closed.wait()
                assert await post(over, secure(peer)) == (200, b"ok")
                assert (peer.connections, peer.open) == (2, 1)
            await peer.all_closed.wait()


async def test_no_more_hosts_are_kept_than_connections_may_be():
    resolve = names(**{f"h{n}__example": ["127.0.0.1"] for n in range(5)})

    with trio.fail_after(20):
        async with (
            open_receiver(answering(OK)) as receiver,
            calling(resolve=resolve, proxy=f"http://127.0.0.1:{receiver.port}") as over,
        ):
            over.delegates._kept = 2
            for n in (0, 1, 2, 3, 4, 4, 3):
                assert await post(over, f"http://h{n}.example/") == (200, b"ok")
                assert over.delegates.hosts <= 2
            assert receiver.connections == 5
            await over.drop_idle(0)
            while receiver.open > 2:
                await trio.testing.wait_all_tasks_blocked()


# Proxies


@attrs.define
class Proxy:
    port: int
    known: dict
    asked: list = attrs.field(factory=list)
    refuses: bytes = b""

    def url(self, user=""):
        return f"http://{user}127.0.0.1:{self.port}"


@asynccontextmanager
async def open_proxy(**known):
    """A proxy that knows these names (dots written ``__``) and no other, each with its port."""
    proxy = Proxy(0, {name.replace("__", "."): port for name, port in known.items()})

    async def serve(stream):
        data = b""
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some(65536)
            if not more:
                return
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        proxy.asked.append((line, lines))
        method, place, _ = line.split()
        name = place.rpartition(":")[0] if method == "CONNECT" else httpx.URL(place).host
        if proxy.refuses or name not in proxy.known:
            await stream.send_all(proxy.refuses or b"HTTP/1.1 502 No such host\r\nContent-Length: 0\r\n\r\n")
            return
        async with await trio.open_tcp_stream("127.0.0.1", proxy.known[name]) as upstream:
            if method == "CONNECT":
                await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                await upstream.send_all(data)
                rest = b""
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pass_on, stream, upstream, rest)
                await pass_on(upstream, stream)
                nursery.cancel_scope.cancel()

    async def pass_on(source, sink, first=b""):
        if first:
            await sink.send_all(first)
        while data := await source.receive_some(65536):
            await sink.send_all(data)

    async with open_receiver(serve) as receiver:
        proxy.port = receiver.port
        yield proxy


async def test_through_a_proxy_the_name_goes_to_the_proxy_and_the_certificate_is_verified_here():
    resolve = names()
    with trio.fail_after(20):
        async with (
            open_receiver(answering(OK), context=server_context("http/1.1")) as receiver,
            open_proxy(hook__example=receiver.port, other__example=receiver.port) as proxy,
            # the proxy may stand anywhere: nothing is allowed beside the internet
            calling(resolve=resolve, proxy=proxy.url("me:p%40ss@"), allowed_networks=()) as over,
        ):
            for _ in range(2):
                assert await post(over, receiver.url("hook.example", "https")) == (200, b"ok")
            [(line, lines)] = proxy.asked
            assert line == f"CONNECT hook.example:{receiver.port} HTTP/1.1"
            assert "Proxy-Authorization: Basic " + base64.b64encode(b"me:p@ss").decode() in lines
            with pytest.raises(httpx.ConnectError, match=r"TLS with other.example failed: its certificate"):
                await post(over, receiver.url("other.example", "https"))
            assert set(resolve.asked) == {"127.0.0.1"}  # the proxy's own


async def test_without_tls_the_proxy_is_asked_for_the_url():
    asked = []
    with trio.fail_after(20):
        async with (
            open_receiver(answering(OK, asked)) as receiver,
            open_proxy(hook__example=receiver.port) as proxy,
            calling(proxy=proxy.url(), http2_hosts=("*",)) as over,
        ):
            url = receiver.url("hook.example")
            assert await fetch(over, url) == (200, b"ok")
            assert proxy.asked[0][0] == f"POST {url} HTTP/1.1"
    assert asked[0][1] == b"{}"


async def test_http_2_goes_through_a_proxy_too():
    with trio.fail_after(20):
        async with (
            open_peer(well) as peer,
            open_proxy(hook__example=peer.port) as proxy,
            calling(proxy=proxy.url(), http2_hosts=("hook.example",)) as over,
        ):
            for _ in range(3):
                assert await post(over, secure(peer)) == (200, b"ok")
            assert len(proxy.asked) == peer.connections == 1


async def test_a_literal_address_is_judged_before_a_proxy_is_asked_for_it():
    with trio.fail_after(20):
        async with open_proxy() as proxy, calling(proxy=proxy.url(), allowed_networks=()) as over:
            for url in ("http://10.0.0.1/", "https://[::1]/", "http://169.254.169.254/"):
                with pytest.raises(EgressRefusedError):
                    await post(over, url)
                with pytest.raises(EgressRefusedError):
                    await fetch(over, url)
            assert proxy.asked == []


async def test_what_a_proxy_refuses_is_said_and_leaves_nothing():
    with trio.fail_after(20):
        async with open_proxy() as proxy, calling(proxy=proxy.url()) as over:
            with pytest.raises(httpx.ProxyError, match="502 No such host"):
                await post(over, "https://hook.example/")
            assert await post(over, "http://hook.example/") == (502, b"")
            proxy.refuses = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xyz\r\n\r\n"
            with pytest.raises(httpx.TransportError):
                await post(over, "https://hook.example/")
            proxy.refuses = b"\0"
            with pytest.raises(httpx.RemoteProtocolError):
                await post(over, "https://hook.example/")
        async with calling(proxy=proxy.url()) as over:
            with pytest.raises(httpx.ConnectError, match="connection refused"):
                await post(over, "https://hook.example/")


async def test_new_settings_hold_from_the_next_request_on_and_let_what_is_under_way_end():
    release = trio.Event()

    async def slow(stream):
        while await read_request(stream) is not None:
            await release.wait()
            await stream.send_all(OK)

    with trio.fail_after(20):
        async with (
            open_receiver(slow) as receiver,
            open_proxy(hook__example=receiver.port) as proxy,
            calling(proxy_hosts=("hook.example",)) as over,
            trio.open_nursery() as nursery,
        ):
            url, got = receiver.url("hook.example"), []

            async def call():
                got.append(await post(over, url))

            plain = Routes.from_settings(SETTINGS)
            through = Routes.from_settings(attrs.evolve(SETTINGS, proxy=proxy.url(), proxy_hosts=("*",)))
            for routes in (plain, through, plain, through):
                over.route(routes)
                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked(0.05)
            assert (len(proxy.asked), over.pool.busy, over.delegates.busy) == (2, 2, 2)
            release.set()
            while len(got) < 4:
                await trio.testing.wait_all_tasks_blocked()
            assert got == [(200, b"ok")] * 4
            assert over.delegates.hosts == 1
