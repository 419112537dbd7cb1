"""A million cases of one seed in each direction, with h11 as the oracle: what we read, and what we write.

Beside the cases that hypothesis looks for (`test_http1_oracles.py`) these are put together at random,
which costs so little that there can be a million of them. A case that fails is named by its number and its bytes.
"""

import random

import h11
import pytest
import trio

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.server.connection import Drain
from econeura_daemon.server.framing import Framer, Head, Refusal
from econeura_daemon.server.http1_exchange import Exchange
from econeura_daemon.server.http1_response import DateLine

SEED = 20261124

DROPPED = {b"upgrade", b"http2-settings", b"expect"}

LINES = [
    b"Host: x\r\n", b"Host: x\r\n", b"Host: x\r\n", b"Host: a.b:80\r\n", b"Host:\r\n", b"Host: a b\r\n",
    b"host : x\r\n", b"A: b\r\n", b"A:\tb \t\r\n", b"A:\r\n", b'a-B_c: ,;="\r\n', b"A: \xe9\r\n",
    b"A: b\r\n c\r\n", b": b\r\n", b"A\r\n", b"Content-Length: 3\r\n", b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n", b"Content-Length: 03\r\n", b"Content-Length: 3, 3\r\n",
    b"Content-Length: +3\r\n", b"Content-Length: 3 \r\n", b"Content-Length: 1_0\r\n",
    b"Transfer-Encoding: chunked\r\n", b"transfer-encoding: Chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: chunked \r\n", b"Transfer-Encoding:\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"Connection: a, CLOSE\r\n", b"Connection: Upgrade\r\n",
    b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"Expect: x\r\n", b"HTTP2-Settings: AAA\r\n",
    b"Trailer: A\r\n",
]  # fmt: skip
STARTS = [
    b"GET / HTTP/1.1\r\n", b"POST /a%20b?c=d HTTP/1.1\r\n", b"DELETE /x HTTP/1.1\r\n",
    b"HEAD / HTTP/1.0\r\n", b"GET http://x/y?z HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n",
    b"M-SEARCH /~!$&'()*+,;=:@ HTTP/1.1\r\n", b"\r\nGET / HTTP/1.1\r\n", b"CONNECT x:1 HTTP/1.1\r\n",
    b"GET /\xe9 HTTP/1.1\r\n", b"GET  / HTTP/1.1\r\n", b"GET / HTTP/1.2\r\n", b"GET /\r\n",
    b"get / HTTP/1.1\r\n", b"GET / http/1.1\r\n", b"GET /#a HTTP/1.1\r\n",
]  # fmt: skip
BODIES = [
    b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n", b'3;a="b"\r\nabc\r\n0\r\nA: b\r\n\r\n',
    b"3 \r\nabc\r\n0\r\n\r\n", b"a\r\n0123456789\r\n00\r\n\r\n", b"3\nabc\n0\n\n",
    b"0x3\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n",
    b"2\r\nab\r\nB\r\n0123456789a\r\n0\r\nA: b\r\nC: d\r\n\r\n", b"0\r\nContent-Length: 3\r\n\r\n",
    b"-1\r\n\r\n",
]  # fmt: skip
FITTING = [
    (b"", b""), (b"", b""), (b"Content-Length: 0\r\n", b""), (b"Content-Length: 3\r\n", b"abc"),
    (b"Transfer-Encoding: chunked\r\n", BODIES[2]), (b"Transfer-Encoding: chunked\r\n", BODIES[10]),
    (b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", BODIES[4]),
]  # fmt: skip
SPECKS = [
    b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b",", b";", b"0", b"9", b"f", b"\0", b"\x80", b"\x7f",
    b"\x0b", b"\r\n\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n", b"-", b"+", b"chunked", b'"',
]  # fmt: skip


def some_requests(rng):
    """Return one to three requests, most of them well framed, half of all then spoilt."""
    raw = b""
    for _ in range(rng.choice([1, 1, 2, 3])):
        if rng.random() < 0.6:
            framing, body = rng.choice(FITTING)
            lines = [b"Host: x\r\n", *rng.choices(LINES[7:13], k=rng.choice([0, 1, 3]))]
            lines.insert(rng.randrange(len(lines) + 1), framing)
            raw += rng.choice(STARTS[:8]) + b"".join(lines) + b"\r\n" + body
        else:
            lines = rng.choices(LINES, k=rng.choice([1, 2, 3, 4]))
            blank = rng.choice([b"\r\n", b"\r\n", b"\r\n", b"\n", b""])
            raw += rng.choice(STARTS) + b"".join(lines) + blank + rng.choice(BODIES)
    for _ in range(rng.choice([0, 0, 1, 3])):
        place = rng.randrange(len(raw) + 1)
        length = rng.choice([0, 1, 1, 2, 8])
        taken = raw[place : place + length]
        put = rng.choice([b"", rng.randbytes(1), taken * 2, rng.choice(LINES), rng.choice(SPECKS)])
        raw = raw[:place] + put + raw[place + length :]
    return raw


def by_us(raw, cuts):
    """Return ``[(head, body), …]`` of the whole requests, and the refusal or None."""
    framer, found = Framer(), []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        framer.feed(raw[start:end])
        while True:
            got = framer.next_body() if framer.in_body else framer.next_head()
            if got is None:
                break
            if isinstance(got, Refusal):
                return found[:-1] if framer.in_body else found, got.slug
            if isinstance(got, Head):
                found.append([got, b""])
            else:
                found[-1][1] += got
            if not framer.in_body and not found[-1][0].keeps_alive:
                return found, None
    return found[:-1] if framer.in_body else found, None


def by_h11(raw):
    """Return ``[(method, target, headers, body, keeps alive), …]`` of the whole requests.

    h11 refuses empty lines before a request, which ours reads over (RFC 9112 section 2.2).
    """
    found, keeps = [], True
    while keeps:
        connection = h11.Connection(h11.SERVER)
        while raw.startswith(b"\r\n"):
            raw = raw[2:]
        connection.receive_data(raw)
        try:
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                return found
            body = b""
            while isinstance(event := connection.next_event(), h11.Data):
                body += bytes(event.data)
        except h11.RemoteProtocolError:
            return found
        if not isinstance(event, h11.EndOfMessage):
            return found
        keeps = connection.their_state in {h11.DONE, h11.MIGHT_SWITCH_PROTOCOL}
        found.append((request.method, request.target, list(request.headers), body, keeps))
        raw = connection.trailing_data[0]
    return found


def agree(raw, cuts):
    """Assert that h11 reads in the same way what we accept; return how many requests that is."""
    ours, refusal = by_us(raw, cuts)
    theirs = by_h11(raw)
    for number, (head, body) in enumerate(ours):
        assert number < len(theirs), "h11 does not find it"
        method, target, headers, their_body, keeps = theirs[number]
        assert (head.method.encode(), body) == (method, their_body)
        named = [(bytes(name), bytes(value)) for name, value in headers if name not in DROPPED]
        read = [
            (name, value.lower() if name == b"transfer-encoding" else value) for name, value in head.headers
        ]
        if target.startswith((b"/", b"*")):
            assert head.raw_path + (b"?" + head.query if b"?" in target else b"") == target
            assert read == named
        else:  # an absolute target, whose host counts and not the header's
            rest = [field for field in read if field[0] != b"host"]
            assert rest == [field for field in named if field[0] != b"host"]
        assert keeps or not head.keeps_alive, "the connection is kept and h11 would not"
    if cuts:
        assert by_us(raw, []) == (ours, refusal), "the pieces it came in change what it is"
    return len(ours)


@pytest.mark.timeout(3600)
@pytest.mark.rounds(short=5_000, soak=1_000_000)
def test_a_million_requests_of_one_seed_are_read_as_h11_reads_them(rounds):
    rng = random.Random(SEED)
    accepted = 0
    for number in range(rounds):
        raw = some_requests(rng)
        cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.choice([0, 0, 1, 5])))
        try:
            accepted += agree(raw, cuts)
        except AssertionError as difference:
            raise AssertionError(f"case {number}: {raw!r} cut at {cuts}") from difference
    assert accepted > rounds / 4  # else the cases say nothing


# The other direction.


class Written:
    """A channel that keeps what is sent."""

    def __init__(self):
        self.text = b""

    async def send(self, data):
        self.text += data

    def receive_nowait(self):
        return b""


RESPONSE_HEADERS = [
    (b"Content-Type", b"text/plain"), (b"x-a", b""), (b"X-B", b"\xe9 ,;"), (b"Connection", b"close"),
    (b"connection", b"x"), (b"Keep-Alive", b"timeout=5"), (b"Transfer-Encoding", b"chunked"),
    (b"Upgrade", b"h2c"), (b"Date", b"now"),
]  # fmt: skip


async def write(rng, written, clock):
    """Let an application answer at random; return what was asked and what is to be read of it."""
    method = rng.choice(["GET", "GET", "HEAD", "POST"])
    minor = rng.choice([1, 1, 1, 0])
    head = Head(method, "/", b"/", b"", minor, [], {}, 0, keeps_alive=minor == 1, expects_continue=False)
    exchange = Exchange(head, Framer(), written, clock, Drain())
    status = rng.choice([200, 200, 201, 204, 304, 404, 503, 599])
    pieces = [rng.randbytes(rng.choice([0, 1, 3, 40, 300])) for _ in range(rng.choice([0, 1, 1, 2, 5]))]
    body = b"".join(pieces)
    headers = rng.sample(RESPONSE_HEADERS, k=rng.choice([0, 0, 1, 3]))
    if rng.random() < 0.5:
        headers.append((rng.choice([b"content-length", b"Content-Length"]), b"%d" % len(body)))
    await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in pieces:
        await exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
    await exchange.send({"type": "http.response.body"})
    bodiless = method == "HEAD" or status in {204, 304}
    return method, minor, status, b"" if bodiless else body, exchange.keeps_alive


def read_one(connection, method):
    """Return status, body, and whether h11 would use the connection again."""
    connection.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, b""
    while True:
        event = connection.next_event()
        assert event is not h11.NEED_DATA, "it does not end"
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            assert isinstance(event, h11.EndOfMessage)
            return status, body, connection.their_state is h11.DONE


@pytest.mark.timeout(3600)
@pytest.mark.rounds(short=3_000, soak=1_000_000)
async def test_a_million_answers_of_one_seed_are_read_by_h11_as_they_were_meant(rounds):
    """Several on one connection, as many as it is kept for: each begins where h11 sees the last one end."""
    rng, clock = random.Random(SEED), DateLine(SystemClock())
    number = 0
    while number < rounds:
        written, meant, keeps = Written(), [], True
        while keeps and len(meant) < 4:
            meant.append(await write(rng, written, clock))
            keeps = meant[-1][-1]
            number += 1
        connection = h11.Connection(h11.CLIENT)
        connection.receive_data(written.text)
        if not keeps:
            connection.receive_data(b"")
        try:
            for method, minor, status, body, kept in meant:
                found = read_one(connection, method)
                assert found == (status, body, kept), (minor, found)
                if kept:
                    connection.start_next_cycle()
            assert connection.trailing_data[0] == b""
        except (AssertionError, h11.RemoteProtocolError) as difference:
            raise AssertionError(f"before case {number}: {written.text!r}, meant {meant}") from difference
    await trio.lowlevel.checkpoint()
