"""Where requests end: strictly, the same however the bytes are cut, and within bounds."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.server.framing import MAX_HEADERS, MAX_TARGET, Framer, Head, Refusal
from tests.http.server_rig import Client, request, serving

HOST = b"Host: x\r\n"


def run(pieces):
    """Feed pieces; return what came out: heads, bodies joined, and the refusal at the end, if any."""
    framer = Framer()
    out = []
    for piece in pieces:
        framer.feed(piece)
        while True:
            if framer.in_body:
                got = framer.next_body()
                if isinstance(got, bytes) and out and isinstance(out[-1], bytes):
                    out[-1] += got
                    continue
            else:
                got = framer.next_head()
            if got is None:
                break
            out.append(got)
            if isinstance(got, Refusal):
                return out
    return out


def slug(raw):
    last = run([raw])[-1]
    return last.slug if isinstance(last, Refusal) else "accepted"


def head(lines, start=b"GET / HTTP/1.1\r\n"):
    return start + HOST + lines + b"\r\n"


ACCEPTED = {
    "plain": head(b""),
    "odd header values": head(b"A: \t b\t c \xe4 \t\r\nB:\r\nC:x\r\n"),
    "every token character": head(b"!#$%&'*+-.^_`|~09azAZ: x\r\n"),
    "empty lines before": b"\r\n\r\n" + head(b""),
    "star": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "http/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "as many headers as may be": head(b"a: b\r\n" * (MAX_HEADERS - 1)),
    "length": head(b"Content-Length: 3\r\n") + b"abc",
    "empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
}

REFUSED = {
    "TLS": (b"\x16\x03\x01\x02\x00\x01", "malformed-request"),
    "junk": (b"\x00", "malformed-request"),
    "bare LF at once": (b"GET / HTTP/1.1\n", "malformed-request"),
    "bare LF in a header": (head(b"A: b\nC: d\r\n"), "malformed-request"),
    "bare CR in a header": (head(b"A: b\rC: d\r\n"), "malformed-request"),
    "bare CR in the request line": (head(b"", b"GET /\r HTTP/1.1\r\n"), "malformed-request"),
    "LF CR LF": (b"GET / HTTP/1.1\r\nHost: x\n\r\n", "malformed-request"),
    "folded": (head(b"A: b\r\n c\r\n"), "malformed-request"),
    "folded first": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", "malformed-request"),
    "space before the colon": (head(b"A : b\r\n"), "malformed-request"),
    "no colon": (head(b"A\r\n"), "malformed-request"),
    "no name": (head(b": b\r\n"), "malformed-request"),
    "NUL": (head(b"A: \0\r\n"), "malformed-request"),
    "control character": (head(b"A: \x7f\r\n"), "malformed-request"),
    "two spaces": (head(b"", b"GET  / HTTP/1.1\r\n"), "malformed-request"),
    "no version": (head(b"", b"GET /\r\n"), "malformed-request"),
    "lower-case http": (head(b"", b"GET / http/1.1\r\n"), "malformed-request"),
    "fragment": (head(b"", b"GET /#a HTTP/1.1\r\n"), "malformed-request"),
    "unprintable target": (head(b"", b"GET /\xc3\xa4 HTTP/1.1\r\n"), "malformed-request"),
    "relative target": (head(b"", b"GET x HTTP/1.1\r\n"), "malformed-request"),
    "connect": (head(b"", b"CONNECT x:80 HTTP/1.1\r\n"), "malformed-request"),
    "userinfo": (head(b"", b"GET http://a@b/ HTTP/1.1\r\n"), "malformed-request"),
    "other scheme": (head(b"", b"GET ftp://b/ HTTP/1.1\r\n"), "malformed-request"),
    "http/1.2": (head(b"", b"GET / HTTP/1.2\r\n"), "http-version-not-supported"),
    "http/2": (b"PRI * HTTP/2.0\r\n\r\n", "http-version-not-supported"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", "malformed-request"),
    "two hosts": (head(HOST), "malformed-request"),
    "host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "malformed-request"),
    "host with a space": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "malformed-request"),
    "two lengths": (head(b"Content-Length: 3\r\nContent-Length: 3\r\n"), "malformed-request"),
    "list of lengths": (head(b"Content-Length: 3, 3\r\n"), "malformed-request"),
    "signed length": (head(b"Content-Length: +3\r\n"), "malformed-request"),
    "negative length": (head(b"Content-Length: -3\r\n"), "malformed-request"),
    "hexadecimal length": (head(b"Content-Length: 0x3\r\n"), "malformed-request"),
    "empty length": (head(b"Content-Length:\r\n"), "malformed-request"),
    "length with a space": (head(b"Content-Length: 1 0\r\n"), "malformed-request"),
    "length of many digits": (head(b"Content-Length: " + b"9" * 19 + b"\r\n"), "malformed-request"),
    "length and coding": (head(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), "malformed-request"),
    "coding and length": (head(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), "malformed-request"),
    "two codings": (head(b"Transfer-Encoding: chunked\r\n" * 2), "malformed-request"),
    "coding in 1.0": (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed-request"),
    "gzip": (head(b"Transfer-Encoding: gzip, chunked\r\n"), "not-implemented"),
    "chunked, identity": (head(b"Transfer-Encoding: chunked, identity\r\n"), "not-implemented"),
    "chunked with junk": (head(b"Transfer-Encoding: \x0bchunked\r\n"), "malformed-request"),
    "expectation": (head(b"Expect: x\r\n"), "expectation-failed"),
    "long target": (b"GET /" + b"x" * (MAX_TARGET + 100), "uri-too-long"),
    "target just too long": (head(b"", b"GET /%b HTTP/1.1\r\n" % (b"x" * MAX_TARGET)), "uri-too-long"),
    "long head": (head(b"A: " + b"x" * 40_000), "headers-too-large"),
    "head without end": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 7000, "headers-too-large"),
    "many headers": (head(b"a: b\r\n" * MAX_HEADERS), "headers-too-large"),
}

CHUNKED = head(b"Transfer-Encoding: Chunked\r\n", b"POST / HTTP/1.1\r\n")
BAD_CHUNKS = {
    "no size": b"\r\nabc\r\n",
    "signed": b"+3\r\nabc\r\n",
    "0x": b"0x3\r\nabc\r\n",
    "underscore": b"1_0\r\n" + b"x" * 16 + b"\r\n",
    "bare LF": b"3\nabc\r\n",
    "bare LF in an extension": b"3;a\nb\r\nabc\r\n",
    "bare CR in an extension": b"3;a\rb\r\nabc\r\n",
    "data too long": b"3\r\nabcd\r\n",
    "LF after data": b"3\r\nabc\n0\r\n\r\n",
    "CR after data": b"3\r\nabc\rx",
    "space before": b" 3\r\nabc\r\n",
    "many digits": b"0" * 16 + b"\r\n",
    "long line": b"3;" + b"a" * 300 + b"\r\n",
    "long line without end": b"3;" + b"a" * 300,
    "bad trailer": b"0\r\nA : b\r\n\r\n",
    "folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "LF trailer": b"0\r\nA: b\n\r\n",
    "many trailers": b"0\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
}


@pytest.mark.parametrize("raw", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_well_formed_is_accepted(raw):
    assert slug(raw) == "accepted"
    assert isinstance(run([raw])[0], Head)


@pytest.mark.parametrize(("raw", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_is_refused(raw, expected):
    assert slug(raw) == expected
    assert run([bytes([byte]) for byte in raw])[-1].slug == expected


def test_a_flaw_is_told_with_the_byte_that_makes_it_one():
    told = run([b"GET / HTTP/1.1\r\nA: b\r", b"C"])
    assert [one.slug for one in told] == ["malformed-request"]


@pytest.mark.parametrize("raw", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_bad_chunks_are_refused(raw):
    assert slug(CHUNKED + raw) == "malformed-request"
    assert run([bytes([byte]) for byte in CHUNKED + raw])[-1].slug == "malformed-request"


def test_chunks_come_out_without_extensions_and_trailers():
    raw = CHUNKED + b"3;name=value\r\nabc\r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n"
    first, body = run([raw])
    assert b"transfer-encoding: Chunked" in first.wire
    assert body == b"abc0123456789"


def test_upgrade_offers_and_expectations_are_taken_out():
    raw = head(b"Upgrade: websocket\r\nHTTP2-Settings: x\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n")
    (first,) = run([raw])
    assert first.wire == b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n"
    assert first.expects_continue


def test_an_absolute_target_becomes_a_path_and_the_host():
    (first,) = run([head(b"", b"GET HTTP://Other.example:80?q=1 HTTP/1.1\r\n")])
    assert first.wire == b"GET /?q=1 HTTP/1.1\r\nhost: Other.example:80\r\n\r\n"


def test_nothing_is_kept_of_what_was_passed_on():
    framer = Framer()
    framer.feed(head(b"Content-Length: 1000000\r\n"))
    framer.next_head()
    for _ in range(100):
        framer.feed(b"x" * 10_000)
        while framer.next_body():
            pass
        assert framer.buffered == 0
    assert not framer.in_body


CUTS = st.lists(st.integers(1, 40), max_size=30)
STREAMS = st.lists(
    st.sampled_from([*ACCEPTED.values(), CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"])
    | st.sampled_from([raw for raw, _ in REFUSED.values()]),
    min_size=1,
    max_size=4,
)


@given(STREAMS, CUTS)
def test_how_the_bytes_are_cut_makes_no_difference(requests, cuts):
    raw = b"".join(requests)
    pieces, at = [], 0
    for size in cuts:
        pieces.append(raw[at : at + size])
        at += size
    pieces.append(raw[at:])
    assert run(pieces) == run([raw])


NAMES = [b"A", b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect"]
VALUES = [b"x", b"", b"3", b"3, 3", b"chunked", b"gzip", b"close", b"upgrade", b"websocket", b"h2c"]
HEADERS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.binary(max_size=5)), max_size=5
)
NEARLY = st.builds(
    lambda start, headers, end, body: (
        start + b"\r\nHost: x\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in headers) + end + body
    ),
    st.sampled_from([b"GET / HTTP/1.1", b"POST /echo HTTP/1.1", b"HEAD /blind HTTP/1.0", b"PUT * HTTP/1.1"])
    | st.binary(max_size=20),
    HEADERS,
    st.sampled_from([b"\r\n", b"\r\n", b"\n", b""]),
    st.sampled_from([b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n"]) | st.binary(max_size=20),
)
JUNK = st.binary(max_size=100) | NEARLY


@given(st.lists(JUNK, min_size=1, max_size=10))
def test_no_bytes_make_a_5xx_of_ours_or_harm_another_client(streams):
    async def main():
        async with (
            serving(head_timeout_ms=100, body_timeout_ms=100, drain_timeout_ms=100) as rig,
            Client(await rig.connect()) as healthy,
        ):
            for raw in streams:
                client = await rig.connect()
                try:
                    await client.send_all(raw)
                    await client.send_eof()
                    with trio.fail_after(10):
                        answer = b""
                        while data := await client.receive_some(65536):
                            answer += data
                except trio.BrokenResourceError:
                    answer = b""
                finally:
                    await trio.aclose_forcefully(client)
                for line in answer.split(b"\r\n"):
                    if line.startswith(b"HTTP/1.1 5"):
                        assert line[9:12] in {b"501", b"505"}, (raw, line)
            await healthy.send(request(body=b"well"))
            assert (await healthy.answer()).body == b"well"

    trio.run(main)
