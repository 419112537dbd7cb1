"""What other people's parsers make of the same bytes: h11 and llhttp (httptools) as oracles, both ways.

Neither package ships its tests, so the tables here are written from the sections of RFC 9112 that are named,
and from the cases that llhttp's documentation lists under its lenient flags
(https://github.com/nodejs/llhttp, "Leniency flags"): what those flags would allow is refused.
"""

import os
from contextlib import suppress

import h11
import httptools
import pytest
import trio
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from econeura_daemon.server.framing import Framer, Head, Refusal
from tests.http.server_rig import PATIENCE, App, Client, answer, read_body, request, serving

CASES = int(os.environ.get("ECONEURA_FUZZ_CASES", "300"))
"""The seed is kept, so that a failure can be had again."""
SEED = 9112

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def frame(pieces):
    """Return ``[(head, body), …]`` and the refusal at the end, or None."""
    framer, found = Framer(), []
    for piece in pieces:
        framer.feed(piece)
        while True:
            got = framer.next_body() if framer.in_body else framer.next_head()
            if got is None:
                break
            if isinstance(got, Refusal):
                return found, got
            if isinstance(got, Head):
                found.append([got, b""])
            else:
                found[-1][1] += got
    return found, None


def by_h11(raw):
    """Return ``[(method, target, headers, body), …]`` of the requests that h11 finds whole."""
    connection, found = h11.Connection(h11.SERVER), []
    connection.receive_data(raw)
    connection.receive_data(b"")
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                current = [event.method, event.target, list(event.headers), b""]
            elif isinstance(event, h11.Data):
                current[3] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append(tuple(current))
                if connection.their_state is not h11.DONE:
                    return found
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            else:
                return found
    except h11.RemoteProtocolError:
        return found


def by_llhttp(raw):
    """Return the bodies of the requests that llhttp finds whole, in its strict mode."""
    found = []

    class Found:
        def on_message_begin(self):
            self.body = b""

        def on_body(self, body):
            self.body += body

        def on_message_complete(self):
            found.append(self.body)

    with suppress(httptools.HttpParserError):
        httptools.HttpRequestParser(Found()).feed_data(raw)
    return found


def cut(raw, sizes):
    pieces, at = [], 0
    for size in sizes:
        pieces.append(raw[at : at + size])
        at += size
    return [*pieces, raw[at:]]


TOKEN = st.text("abcXYZ019-_.!~", min_size=1, max_size=8).map(str.encode)
VALUE = st.text("abc 09,;=/\t", max_size=12).map(lambda text: text.strip().encode())
NAMES = TOKEN.filter(
    lambda name: name.lower() not in {b"host", b"te", b"expect", b"upgrade", b"connection"}
).map(lambda name: b"X-" + name)
FIELDS = st.lists(st.tuples(NAMES, VALUE), max_size=6)
TARGETS = st.text("abc/%20?=&.", max_size=12).map(lambda text: b"/" + text.encode())


@st.composite
def whole_request(draw):
    """A request that is as it should be, with its body in length or chunks."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH"]))
    lines = [b"%b %b HTTP/1.1" % (method, draw(TARGETS)), b"Host: x"]
    lines += [b"%b: %b" % field for field in draw(FIELDS)]
    body = draw(st.none() | st.binary(max_size=60))
    if body is None:
        return b"\r\n".join(lines) + b"\r\n\r\n"
    if draw(st.booleans()):
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body
    raw = b"\r\n".join([*lines, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n"
    for piece in cut(body, draw(st.lists(st.integers(1, 9), max_size=5))):
        if piece:
            raw += b"%x%b\r\n%b\r\n" % (len(piece), draw(st.sampled_from([b"", b";a", b";a=b"])), piece)
    return raw + b"0\r\n" + draw(st.sampled_from([b"", b"A: b\r\n"])) + b"\r\n"


CUTS = st.lists(st.integers(1, 30), max_size=20)


@seed(SEED)
@settings(max_examples=CASES)
@given(st.lists(whole_request(), min_size=1, max_size=4), CUTS)
def test_of_well_formed_requests_we_and_both_oracles_read_the_same(requests, sizes):
    raw = b"".join(requests)
    ours, refusal = frame(cut(raw, sizes))
    assert refusal is None
    theirs = by_h11(raw)
    assert len(ours) == len(theirs) == len(requests)
    for (head, body), (method, target, headers, their_body) in zip(ours, theirs, strict=True):
        query = b"?" + head.query if b"?" in target else b""
        assert (head.method.encode(), head.raw_path + query, body) == (method, target, their_body)
        assert head.headers == [(bytes(name), bytes(value)) for name, value in headers]
    assert [body for _, body in ours] == by_llhttp(raw)


DAMAGE = st.sampled_from(
    [
        *(b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n", b"\x0b", b"\xff", b";", b"0", b"-", b"+"),
        *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"chunked", b"GET "),
        b"\r\n\r\n",
    ]
)


@st.composite
def damaged_requests(draw):
    """Requests with bytes put in, taken out or overwritten at arbitrary places."""
    raw = bytearray(b"".join(draw(st.lists(whole_request(), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        kind = draw(st.sampled_from(["insert", "overwrite", "delete"]))
        damage = draw(DAMAGE | st.binary(min_size=1, max_size=2))
        if kind == "insert":
            raw[at:at] = damage
        elif kind == "overwrite":
            raw[at : at + len(damage)] = damage
        else:
            del raw[at : at + draw(st.integers(1, 8))]
    return bytes(raw)


@seed(SEED)
@settings(max_examples=CASES)
@given(damaged_requests(), CUTS)
def test_what_we_accept_of_damaged_requests_h11_reads_in_the_same_way(raw, sizes):
    """We may refuse more than h11. What we pass on, it must have found too, with the same end."""
    ours, refusal = frame(cut(raw, sizes))
    whole = ours if refusal is None else ours[:-1]
    theirs = by_h11(raw)
    for number, (head, body) in enumerate(whole):
        if number >= len(theirs):
            break  # unfinished, or beyond what h11 stops at (absolute targets' Host, "close")
        method, _, _, their_body = theirs[number]
        assert (head.method.encode(), body) == (method, their_body)
        if not head.keeps_alive:
            return
    # In which pieces it came changes nothing but how much of a refused body was passed on before.
    at_once, refused_at_once = frame([raw])
    assert refused_at_once == refusal
    assert (at_once if refusal is None else at_once[:-1]) == whole


LENIENCIES = {
    "headers: obs-fold": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "headers: NUL": b"GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n",
    "chunked length: both": CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n") + b"0\r\n\r\n",
    "transfer encoding: not last": CHUNKED.replace(b"chunked", b"chunked, gzip"),
    "transfer encoding: repeated": CHUNKED.replace(b"chunked", b"chunked, chunked"),
    "version: 1.9": b"GET / HTTP/1.9\r\nHost: x\r\n\r\n",
    "version: 5.6": b"GET / HTTP/5.6\r\nHost: x\r\n\r\n",
    "optional LF after CR": b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
    "optional CR before LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "optional CRLF after chunk": CHUNKED + b"3\r\nabc0\r\n\r\n",
    "spaces after chunk size, before": CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n",
    "chunk size: sign": CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    "chunk size: overflow": CHUNKED + b"f" * 17 + b"\r\n",
    "chunk extension: bare LF": CHUNKED + b"3;a\nabc\r\n0\r\n\r\n",
    "chunk extension: bare CR": CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "trailer: obs-fold": CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n",
    "9112 2.2: bare CR in a value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
    "9112 2.2: space before the first header": b"GET / HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n",
    "9112 3: no version": b"GET /\r\nHost: x\r\n\r\n",
    "9112 3.2: two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "9112 5.1: space before the colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "9112 6.1: coding in 1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "9112 6.3: lengths that differ": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "9112 6.3: length list": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n",
    "9112 6.3: coding with a tab": CHUNKED.replace(b" chunked", b" \x0bchunked"),
}


@pytest.mark.parametrize("raw", LENIENCIES.values(), ids=LENIENCIES)
def test_what_a_lenient_parser_would_take_is_refused(raw):
    for pieces in ([raw], [bytes([byte]) for byte in raw]):
        assert frame(pieces)[1] is not None


def test_a_body_behind_an_upgrade_offer_is_a_body():
    """Llhttp stops there: the body would be read as the next request."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    raw = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n%b"
    ours, refusal = frame([raw % (len(smuggled), smuggled)])
    assert refusal is None
    assert [body for _, body in ours] == [smuggled]


# The other direction: what we write, as h11 reads it.

PIECES = st.lists(st.binary(max_size=40), max_size=5)


@seed(SEED)
@settings(max_examples=max(CASES // 20, 15), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["GET", "HEAD", "POST"]),
            st.sampled_from([200, 201, 204, 304, 404, 503]),
            st.booleans(),
            PIECES,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_an_application_answers_h11_reads_it_as_meant(answers):
    async def main():
        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                raise NotImplementedError
            _, status, has_length, pieces = answers[int(scope["path"][1:])]
            await read_body(receive)
            headers = [(b"content-length", b"%d" % sum(map(len, pieces)))] if has_length else []
            await send({"type": "http.response.start", "status": status, "headers": headers})
            for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        async with serving(app, scope_of=lambda *_: None) as rig, Client(await rig.connect()) as client:
            for number, (method, _, _, _) in enumerate(answers):
                await client.send(
                    request(f"/{number}", method=method, body=b"" if method == "POST" else None)
                )
            for method, status, _, pieces in answers:
                found = await client.answer(method=method)
                bodiless = method == "HEAD" or status in {204, 304}
                assert (found.status, found.body) == (status, b"" if bodiless else b"".join(pieces))
                assert found.is_complete

    trio.run(main)


async def test_http_1_0_gets_its_answer_without_chunks_and_the_end():
    app = App()
    async with serving(app) as rig, Client(await rig.connect()) as client:
        app.release.set()
        await client.send(b"GET /blind HTTP/1.0\r\n\r\n")
        found = await client.answer(until_closed=True)
        assert (found.body, found.headers["connection"]) == (b"ok", "close")

    async def streams(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"c"})

    async with serving(streams) as rig, Client(await rig.connect()) as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        text = b""
        with trio.fail_after(PATIENCE):
            while data := await client.stream.receive_some(1000):
                text += data
        assert b"transfer-encoding" not in text
        assert text.endswith(b"\r\n\r\nabc")


async def test_an_application_may_answer_while_it_reads():
    async def echo(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    async with serving(echo) as rig, Client(await rig.connect()) as client:
        body = b"0123456789" * 20
        raw = request("/", body=body)
        await client.send(raw[:-150])
        with trio.fail_after(PATIENCE):
            text = b""
            while not text.endswith(body[:50] + b"\r\n"):
                text += await client.stream.receive_some(1000)
        await client.send(raw[-150:] + request("/", body=b"next"))
        with trio.fail_after(PATIENCE):
            while not text.endswith(b"next\r\n0\r\n\r\n"):
                text += await client.stream.receive_some(1000)
        assert text.count(b"HTTP/1.1 200 OK") == 2


async def test_head_and_body_of_a_small_answer_come_in_one_piece():
    async def quartish(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    for app in (quartish, lambda scope, receive, send: _answer(scope, send)):
        async with serving(app) as rig, Client(await rig.connect()) as client:
            await client.send(request("/"))
            with trio.fail_after(PATIENCE):
                assert (await client.stream.receive_some(65536)).endswith(b"\r\n\r\nok")


async def _answer(scope, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await answer(send)
