"""The parser of answers, with h11 as the oracle: whatever ours accepts, h11 reads the same way."""

import itertools
import random
import re

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.wire.answers import MAX_HEAD_BYTES, AnswerParser


def read(raw, method="POST", cuts=(), *, end=True):
    """Return (status, headers, body, reusable) as ours reads them, or a flaw in words."""
    parser = AnswerParser()
    parser.begin(head_only=method == "HEAD")
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    for start, stop in itertools.pairwise(edges):
        if parser.flaw is None and not parser.complete and start < stop:
            parser.feed(raw[start:stop])
            if parser.complete and stop < len(raw):
                parser.surplus = True
                parser.reusable = False
    if parser.flaw is not None:
        return parser.flaw
    if end and not parser.complete:
        missing = parser.end()
        if missing:
            return missing
    if not parser.complete:
        return None
    headers = [
        (name.lower(), value.lower() if name.lower() == b"transfer-encoding" else value)  # as h11 gives it
        for name, value in parser.headers
    ]
    return parser.status, headers, b"".join(parser.parts), parser.reusable


INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d(?: [^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n")


def tidied(raw):
    """Take out what ours reads over and h11 refuses: empty lines before an answer (RFC 9112 2.2), and what
    stands in a reason phrase, which nobody keeps (RFC 9112 4)."""
    heads = b""
    while True:
        raw = re.sub(rb"\A[\r\n]+(?=H)", b"", raw)
        raw = re.sub(rb"\A(HTTP/1\.[01] \d\d\d )[^\r\n]*\r\n", rb"\1\r\n", raw)
        interim = INTERIM.match(raw)
        if interim is None:
            return heads + raw
        heads, raw = heads + interim[0], raw[interim.end() :]


def read_by_h11(raw, method="POST"):
    """Return the same as h11 reads it, None for what it refuses."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(tidied(raw))
    ended = False
    head, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if ended:
                    return None
                connection.receive_data(b"")
                ended = True
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    return None
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return None
    except h11.RemoteProtocolError:
        return None
    surplus, _ = connection.trailing_data
    reusable = (
        connection.their_state is h11.DONE and connection.our_state is h11.DONE and not surplus.strip(b"\r\n")
    )
    headers = [(bytes(name), bytes(value)) for name, value in head.headers]
    return head.status_code, headers, body, reusable


STARTS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 304 \r\n",
    b"HTTP/1.1 503 Busy now\r\n", b"HTTP/1.1 200\r\n", b"HTTP/1.1 999 \xe9\r\n",
    b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 201 X\r\n",
    b"HTTP/1.1 103 E\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n", b"HTTP/2.0 200 OK\r\n",
    b"HTTP/1.1 101 S\r\n", b"HTTP/1.2 200 OK\r\n",
    b"HTTP/1.1 099 X\r\n", b"HTTP/1.1 20 X\r\n", b"http/1.1 200 OK\r\n", b"HTTP/1.1  200 OK\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n",
]  # fmt: skip
LINES = [
    b"Content-Length: 0\r\n", b"Content-Length: 3\r\n", b"content-length:3 \r\n", b"Content-Length: 03\r\n",
    b"Content-Length: 3, 3\r\n", b"Content-Length: -1\r\n", b"Content-Length: +3\r\n",
    b"Content-Length: \r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 3 3\r\n", b"Content-Length : 3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: CHUNKED\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: \tchunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: Upgrade, Close\r\n",
    b"Upgrade: h2c\r\n",
    b"X-A: b\r\n", b"X-A:\r\n", b"X-A: b\r\n c\r\n", b"X-A: \xff\r\n", b"X-A: \x00\r\n",
    b"X-A: a\x01\r\n", b": v\r\n", b"X A: v\r\n",
    b"X-A\r\n", b"X-A: b\n", b" X-A: b\r\n", b"X-A: a\rb\r\n", b"X-\xe9: a\r\n", b"Keep-Alive: timeout=5\r\n",
]  # fmt: skip
BODIES = [
    b"", b"abc", b"abcd", b"ab", b"3\r\nabc\r\n0\r\n\r\n", b"3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n",
    b"3\r\nabc\r\n", b"0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n", b"g\r\n", b"3\nabc\n0\n\n", b"-1\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n",
    b" 3\r\nabc\r\n0\r\n\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
    b"00003\r\nabc\r\n000\r\n\r\n",
]  # fmt: skip

SPECKS = [
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"\x00",
    b"\x80",
    b"\r\n\r\n",
    b"0\r\n\r\n",
]

answers = st.builds(
    lambda start, lines, blank, body: start + b"".join(lines) + blank + body,
    st.sampled_from(STARTS),
    st.lists(st.sampled_from(LINES), max_size=4),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b""]),
    st.sampled_from(BODIES),
)
mutated = st.builds(
    lambda raw, place, junk: raw[: place % (len(raw) + 1)] + junk + raw[place % (len(raw) + 1) :],
    answers,
    st.integers(0, 500),
    st.binary(max_size=3),
)
cut = st.lists(st.integers(0, 200), max_size=6)


def agree(raw, method, cuts):
    """Assert that what ours accepts h11 reads the same way; tell whether ours accepts it."""
    ours, theirs = read(raw, method, cuts), read_by_h11(raw, method)
    if isinstance(ours, str):
        return False  # what may be refused is said below
    assert theirs is not None, f"only ours accepts {raw!r} as {ours}"
    assert ours[:3] == theirs[:3]
    assert theirs[3] or not ours[3], "ours would use a connection again that h11 would not"
    return True


@given(st.one_of(answers, mutated), st.sampled_from(["POST", "GET", "HEAD"]), cut)
def test_what_ours_accepts_h11_reads_the_same_way(raw, method, cuts):
    agree(raw, method, cuts)


SEED = 20261124


FITTING = [
    (b"Content-Length: 0\r\n", b""), (b"Content-Length: 3\r\n", b"abc"),
    (b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nT: v\r\n\r\n"),
    (b"", b"until the end"),
]  # fmt: skip


def some_answer(rng):
    """Return an answer put together at random, half of them well framed, two of three then spoilt."""
    lines = rng.choices(LINES, k=rng.choice([0, 0, 1, 2, 3]))
    if rng.random() < 0.5:
        framing, body = rng.choice(FITTING)
        lines.insert(rng.randrange(len(lines) + 1), framing)
        raw = rng.choice(STARTS[:9]) + b"".join(lines) + b"\r\n" + body
    else:
        blank = rng.choice([b"\r\n", b"\r\n", b"\r\n", b"\n", b""])
        raw = rng.choice(STARTS) + b"".join(lines) + blank + rng.choice(BODIES)
    for _ in range(rng.choice([0, 1, 3])):
        place = rng.randrange(len(raw) + 1)
        length = rng.choice([0, 1, 1, 2, 8])
        taken = raw[place : place + length]
        put = rng.choice([b"", rng.randbytes(1), taken * 2, rng.choice(LINES), rng.choice(SPECKS)])
        raw = raw[:place] + put + raw[place + length :]
    return raw


@pytest.mark.rounds(short=5_000, soak=1_000_000)
def test_a_million_answers_of_one_seed_are_read_as_h11_reads_them(rounds):
    rng = random.Random(SEED)
    accepted = 0
    for number in range(rounds):
        raw = some_answer(rng)
        method = rng.choice(["POST", "GET", "HEAD"])
        cuts = [rng.randrange(len(raw) + 1) for _ in range(rng.choice([0, 0, 1, 5]))]
        try:
            accepted += agree(raw, method, cuts)
        except AssertionError as difference:
            raise AssertionError(f"case {number}: {method} {raw!r} cut at {cuts}") from difference
    assert accepted > rounds / 10  # as much is well formed, or the cases say nothing


@given(st.one_of(answers, mutated), st.sampled_from(["POST", "GET", "HEAD"]), cut)
def test_where_an_answer_is_cut_into_packets_changes_nothing(raw, method, cuts):
    whole, parts = read(raw, method), read(raw, method, cuts)
    assert isinstance(whole, str) == isinstance(parts, str)
    if not isinstance(whole, str):
        assert whole == parts


names = st.text("abcXYZ-09", min_size=1, max_size=12).map(lambda text: b"x-" + text.encode())
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30).map(str.encode)


@given(
    st.integers(200, 599),
    st.lists(st.tuples(names, values), max_size=8),
    st.lists(st.binary(min_size=1, max_size=200), max_size=5),
    st.sampled_from(["length", "chunked", "close"]),
    st.sampled_from(["GET", "HEAD"]),
    cut,
)
def test_every_well_formed_answer_is_read(status, headers, parts, framing, method, cuts):
    body = b"".join(parts)
    bodyless = method == "HEAD" or status in {204, 304}
    lines = [b"%b: %b\r\n" % pair for pair in headers]
    sent = body
    if framing == "length":
        lines.append(b"Content-Length: %d\r\n" % len(body))
    elif framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked\r\n")
        sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    raw = b"HTTP/1.1 %d X\r\n%b\r\n%b" % (status, b"".join(lines), b"" if bodyless else sent)
    got = read(raw, method, cuts)
    assert got[0] == status
    assert got[1][: len(headers)] == [(name.lower(), value) for name, value in headers]
    assert got[2] == (b"" if bodyless else body)
    assert got[3] is (bodyless or framing != "close")
    assert read_by_h11(raw, method)[:3] == got[:3]


@pytest.mark.parametrize(
    ("raw", "flaw"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "transfer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", "transfer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "duplicate"),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", "whitespace"),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "missing expected cr"),
        (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "version is 2.0"),
        (b"HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\nxyz", "status is 101"),
        (b"HTTP/1.1 099 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "status is 99"),
        (b"HTTP/1.1 100 C\r\nContent-Length: 3\r\n\r\nabc", "interim"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "transfer encoding"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "before the answer was complete"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "before the answer was complete",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\ncontent-Length: 3\r\n\r\n",
            "content-length",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: x\r\n\r\n",
            "trailers",
        ),
        (b"", "without sending a response"),
    ],
)
def test_what_h11_may_repair_is_refused_in_words(raw, flaw):
    assert flaw in read(raw)


@pytest.mark.parametrize("status", [200, 204, 304])
def test_a_head_with_a_flaw_never_stands(status):
    parser = AnswerParser()
    parser.feed(b"HTTP/1.1 %d X\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" % status)
    assert "transfer encoding" in parser.flaw
    assert not parser.has_head
    assert not parser.complete


def test_an_answer_whose_trailers_have_a_flaw_is_never_complete():
    """Who reads to the end of the body must meet the flaw there."""
    parser = AnswerParser()
    parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n")
    parser.feed(b"Transfer-Encoding: x\r\n\r\n")
    assert "trailers" in parser.flaw
    assert parser.has_head
    assert not parser.complete


def test_a_coding_is_known_in_any_case():
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    assert read(raw)[2:] == (b"ok", True)


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 N\r\n\r\n"),
    ],
)
def test_answers_without_a_body_leave_a_connection_that_serves_again(method, raw):
    parser = AnswerParser()
    for _ in range(3):
        parser.begin(head_only=method == "HEAD")
        parser.feed(raw)
        assert parser.complete
        assert parser.reusable
        assert not parser.parts
        parser.rewind()
    parser.begin()
    parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert (parser.complete, parser.reusable, list(parser.parts)) == (True, True, [b"ok"])


@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK\r\n", b"\r\nHTTP", b"\0", b"0\r\n\r\n"])
@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 N\r\n\r\n"),
    ],
)
def test_what_nobody_asked_for_spoils_the_connection_and_not_the_answer(method, raw, surplus):
    status, _, body, reusable = read(raw + surplus, method)
    assert status in {200, 204}
    assert body in {b"ok", b""}
    assert not reusable


@pytest.mark.parametrize(
    "endless",
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"x" * 4000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 4000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
            b"T: " + b"x" * 4000 + b"\r\n",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;", b"x" * 4000),
    ],
)
def test_what_is_no_body_is_bounded(endless):
    parser = AnswerParser()
    beginning, more = endless
    if beginning:
        parser.feed(beginning)
    for _ in range(2 * MAX_HEAD_BYTES // len(more)):
        if parser.flaw is None:
            parser.feed(more)
    assert str(MAX_HEAD_BYTES) in parser.flaw


def test_what_stands_between_the_parts_of_a_body_is_bounded_and_not_their_number():
    parser = AnswerParser()
    parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(MAX_HEAD_BYTES // 3):
        parser.feed(b"1;comment\r\n")
        parser.feed(b"x\r\n")
    parser.feed(b"0\r\n\r\n")
    assert (parser.flaw, parser.complete) == (None, True)
    assert len(parser.parts) == MAX_HEAD_BYTES // 3
