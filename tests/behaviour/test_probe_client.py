"""Probes on real sockets: what passes, what fails and in which words, and how much is read and kept."""

import socket
import struct

import pytest
import trio

from econeura_daemon.core.instances import CheckKind
from econeura_daemon.probes import Outcome, open_probe_client
from econeura_daemon.registry.model import Check, Registration
from tests.support.authority import server_context, trusting
from tests.support.ports import free_port
from tests.support.receivers import names, open_receiver

TCP = CheckKind.TCP


def answer(status, body=b"", *headers):
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def giving(*answers, requests=None):
    """Return a server that gives one answer a connection, in turn, the last one for ever."""
    left = list(answers)

    async def serve(stream):
        head = b""
        while b"\r\n\r\n" not in head:
            more = await stream.receive_some(65536)
            if not more:
                return
            head += more
        if requests is not None:
            requests.append(head.decode())
        await stream.send_all(left.pop(0) if len(left) > 1 else left[0])

    return serve


async def probe_at(
    port, *, host="127.0.0.1", scheme="http", server_name=None, resolve=None, make_context=None, **check
):
    said = Registration(
        id="a", name="a", type="web", host=host, port=port, scheme=scheme, server_name=server_name
    )
    async with open_probe_client(resolve=resolve, make_context=make_context) as client:
        with trio.fail_after(10):
            return await client.probe(said, Check(**{"timeout_ms": 5_000, **check}))


async def probe(serve, **more):
    async with open_receiver(serve, context=more.pop("context", None)) as receiver:
        result = await probe_at(receiver.port, **more)
        with trio.fail_after(5):
            while receiver.open:  # closed by whoever probed it, and not for the end of the block
                await receiver.all_closed.wait()
        return result


def told(result):
    return result.outcome.value, result.detail


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, ("pass", "HTTP 200")),
        (204, ("pass", "HTTP 204")),
        (299, ("pass", "HTTP 299")),
        (429, ("warning", "HTTP 429 'slow down'")),
        (301, ("fail", "HTTP 301 'slow down'")),  # without a Location it leads nowhere
        (404, ("fail", "HTTP 404 'slow down'")),
        (503, ("fail", "HTTP 503 'slow down'")),
    ],
)
async def test_a_2xx_passes_a_429_warns_and_everything_else_fails(status, expected):
    body = b"" if status == 204 else b" slow down \nand more"
    result = await probe(giving(answer(status, body)))
    assert told(result) == expected
    assert result.output == body


async def test_a_probe_says_who_asks_and_for_what():
    requests = []
    await probe(giving(answer(200), requests=requests), path="/ready?deep=1")
    [head] = requests
    assert head.startswith("GET /ready?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "health probe" in head
    assert "Connection: close" in head
    assert "Accept-Encoding: identity" in head


async def test_every_probe_makes_a_connection_of_its_own():
    async with open_receiver(giving(answer(200))) as receiver:
        for count in (1, 2, 3):
            assert (await probe_at(receiver.port)).passed
            assert receiver.connections == count
        with trio.fail_after(5):
            await receiver.all_closed.wait()


@pytest.mark.parametrize("location", ["/well", "well", "http://127.0.0.1:PORT/well"])
async def test_a_redirect_on_the_host_is_followed(location):
    requests = []

    async def turn(stream):
        port = stream.socket.getsockname()[1]
        moved = answer(302, b"", f"Location: {location.replace('PORT', str(port))}")
        await giving(answer(200) if requests else moved, requests=requests)(stream)

    assert told(await probe(turn)) == ("pass", "HTTP 200")
    assert [head.split()[1] for head in requests] == ["/health", "/well"]


async def test_a_redirect_to_another_port_of_the_host_is_followed():
    async with open_receiver(giving(answer(200))) as other:
        moved = answer(308, b"", f"Location: http://127.0.0.1:{other.port}/")
        assert told(await probe(giving(moved))) == ("pass", "HTTP 200")
        assert other.connections == 1


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2/",
        "//elsewhere.example/x",
        "https://[::1]/",
        "ftp://127.0.0.1/",
        "http://[/",
        "/a\u00e9",
    ],
)
async def test_a_redirect_off_the_host_fails_and_is_not_followed(location):
    moved = answer(302, b"", f"Location: {location}")
    result = await probe(giving(moved, answer(200)))
    assert not result.passed
    assert result.detail.startswith("HTTP 302 leads off the host, to '")


async def test_redirects_in_a_ring_fail():
    requests = []
    result = await probe(giving(answer(302, b"", "Location: /a"), requests=requests))
    assert told(result) == ("fail", "more than 3 redirects")
    assert len(requests) == 4


@pytest.mark.parametrize("pieces", ["head", "body"])
async def test_an_answer_that_trickles_fails_at_the_whole_timeout(pieces):
    text = answer(200, b"x" * 1000)
    start = 0 if pieces == "head" else text.index(b"\r\n\r\n") + 4

    async def trickle(stream):
        await stream.receive_some(65536)
        await stream.send_all(text[:start])
        for place in range(start, len(text)):
            await stream.send_all(text[place : place + 1])
            await trio.sleep(0.02)

    began = trio.current_time()
    result = await probe(trickle, timeout_ms=300)
    assert told(result) == ("fail", "no answer within 300 ms")
    assert trio.current_time() - began < 3


async def test_an_endless_body_is_read_to_64_kib_and_4_are_kept():
    sent = 0

    async def endless(stream):
        nonlocal sent
        await stream.receive_some(65536)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"0123456789abcdef" * 64)
            sent += 1024

    result = await probe(endless)
    assert told(result) == ("pass", "HTTP 200")
    assert result.output == b"0123456789abcdef" * 256
    assert sent < 8 << 20, "what the sockets' buffers hold, and no more"


@pytest.mark.parametrize(
    ("kib", "expected"), [(66, ("pass", "HTTP 200")), (60, ("fail", "no answer within 300 ms"))]
)
async def test_of_a_long_answer_64_kib_are_waited_for(kib, expected):
    async def stuck(stream):
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * kib * 1024)
        await stream.receive_some(1)

    assert told(await probe(stuck, timeout_ms=300 if kib < 64 else 5000)) == expected


async def test_an_endless_head_fails():
    async def endless(stream):
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send_all(b"X-Again: and again\r\n" * 50)

    result = await probe(endless)
    assert not result.passed
    assert "answer" in result.detail


async def reset(stream):
    await stream.receive_some(65536)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def hang_up(stream):
    await stream.receive_some(65536)


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (reset, "reset"),
        (hang_up, "closed"),
        (giving(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP/1.1"),
        (giving(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), "closed"),
        (giving(b"HTTP/1.1 2x0 OK\r\n\r\n"), "not HTTP/1.1"),
    ],
)
async def test_what_is_no_answer_fails_in_words(serve, words):
    result = await probe(serve)
    assert result.outcome is Outcome.FAIL
    assert words in result.detail
    assert "Error" not in result.detail, "no exception's name"


@pytest.mark.parametrize("kind", list(CheckKind))
async def test_a_port_where_nobody_listens_fails(kind):
    port = free_port()
    assert told(await probe_at(port, kind=kind)) == ("fail", f"connection refused by 127.0.0.1:{port}")


async def test_a_tcp_probe_passes_where_connections_are_accepted_and_says_nothing():
    heard, ended = [], trio.Event()

    async def listen(stream):
        heard.append(await stream.receive_some(100))
        ended.set()

    async with open_receiver(listen) as receiver:
        assert told(await probe_at(receiver.port, kind=TCP)) == ("pass", "it accepts connections")
        with trio.fail_after(5):
            await ended.wait()
    assert heard == [b""]


async def test_a_tcp_probe_gives_up_at_its_timeout():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.socket() as first, socket.socket() as second:
            for one in (first, second):
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            await trio.sleep(0.05)
            result = await probe_at(full.getsockname()[1], kind=TCP, timeout_ms=200)
    assert not result.passed
    assert "200 ms" in result.detail


async def test_a_name_without_an_address_fails():
    result = await probe_at(80, host="gone.example", resolve=names())
    assert not result.passed
    assert "gone.example" in result.detail


async def test_https_is_probed_under_tls_and_the_certificate_is_verified():
    resolve = names(web__example=["127.0.0.1"])
    there = {"scheme": "https", "host": "web.example", "resolve": resolve, "make_context": trusting}
    result = await probe(giving(answer(200)), context=server_context("web.example"), **there)
    assert told(result) == ("pass", "HTTP 200")
    other = await probe(giving(answer(200)), context=server_context("other.example"), **there)
    assert not other.passed
    assert "certificate does not verify" in other.detail


async def test_an_address_that_was_found_for_a_name_is_asked_for_the_name():
    requests = []
    found = {"scheme": "https", "server_name": "web.example", "make_context": trusting}
    serve = giving(answer(200), requests=requests)
    result = await probe(serve, context=server_context("web.example"), **found)
    assert told(result) == ("pass", "HTTP 200")
    assert "\r\nHost: web.example:" in requests[0]


async def test_an_answer_under_tls_that_ends_without_its_last_word_counts_by_its_status():
    async def sloppy(stream):
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.0 200 OK\r\n\r\nfine")
        stream.transport_stream.socket.close()  # no close_notify: many servers of HTTP/1.0 do so

    there = {"scheme": "https", "host": "web.example", "resolve": names(web__example=["127.0.0.1"])}
    result = await probe(sloppy, context=server_context("web.example"), make_context=trusting, **there)
    assert told(result) == ("pass", "HTTP 200")


async def test_https_to_a_server_without_tls_fails_in_words():
    async def plain(stream):
        await stream.receive_some(65536)
        await stream.send_all(answer(400))

    result = await probe(plain, scheme="https", make_context=trusting)
    assert not result.passed
    assert result.detail.startswith("TLS with 127.0.0.1 failed: ")


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "169.254.1.1", "224.0.0.1", "0.0.0.0", "fe80::1"],
)
async def test_what_carries_no_service_is_never_probed(address):
    result = await probe_at(80, host=address, timeout_ms=1000)
    assert not result.passed
    assert "is never probed" in result.detail


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "fd12::1", "100.64.0.1"])
async def test_internal_networks_may_be_probed(address):
    result = await probe_at(9, host=address, timeout_ms=50)
    assert "never" not in result.detail
