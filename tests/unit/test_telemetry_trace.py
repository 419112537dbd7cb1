"""W3C Trace Context, after the cases of the specification's own test suite."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.telemetry.trace import (
    TraceContext,
    call_headers,
    child,
    new_trace,
    parse_traceparent,
    parse_tracestate,
)

TRACE = "12345678901234567890123456789012"
SPAN = "1234567890123456"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "text", [GOOD, f" {GOOD}\t ", f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-comes"]
)
def test_a_valid_traceparent_is_read_and_one_of_a_later_version_too(text):
    context = parse_traceparent(text)
    assert context == TraceContext(TRACE, SPAN, sampled=True)
    assert context.traceparent == GOOD


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        f"00-{TRACE}-0000000000000000-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-.234567890123456-01",
        f"00-{TRACE}-{SPAN}7-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{TRACE}-{SPAN}-.0",
        f"00-{TRACE}-{SPAN}-0.",
        f"00-{TRACE}-{SPAN}-001",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}3-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{'A' * 32}-{SPAN}-01",
        f"{GOOD}.",
        f"{GOOD}-what-the-future-will-be-like",
        f"{GOOD}\n",
        f"cc-{TRACE}-{SPAN}-01.what-comes",
        f"cc-{TRACE}-{SPAN}-01what",
        f"ff-{TRACE}-{SPAN}-01",
        f".0-{TRACE}-{SPAN}-01",
        f"000-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"CC-{TRACE}-{SPAN}-01",
        f"{GOOD},{GOOD}",
        GOOD.replace("1", "\N{ARABIC-INDIC DIGIT ONE}"),  # a digit, but no ASCII one
    ],
)
def test_an_invalid_traceparent_is_as_none(text):
    assert parse_traceparent(text) is None


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("ff", True)])
def test_of_the_flags_only_sampled_is_kept(flags, sampled):
    context = parse_traceparent(f"00-{TRACE}-{SPAN}-{flags}")
    assert context.sampled is sampled
    assert context.traceparent[-2:] == f"0{sampled:d}"


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("foo=1,bar=2", [("foo", "1"), ("bar", "2")]),
        ("foo=1 \t , \t bar=2, \t baz=3", [("foo", "1"), ("bar", "2"), ("baz", "3")]),
        ("foo=1,,", [("foo", "1")]),
        ("foo= 1 2", [("foo", " 1 2")]),
        ("0t@v=1", [("0t@v", "1")]),
        ("z" * 256 + "=1", [("z" * 256, "1")]),
        ("t" * 241 + "@" + "v" * 14 + "=1", [("t" * 241 + "@" + "v" * 14, "1")]),
        ("foo=" + "v" * 256, [("foo", "v" * 256)]),
        ("abc0_-*/@a0_-*/= !\"#$%&'()*+-./0:;<>?@AZ[\\]^_`az{|}~",
         [("abc0_-*/@a0_-*/", " !\"#$%&'()*+-./0:;<>?@AZ[\\]^_`az{|}~")]),
        (",".join(f"k{n}=1" for n in range(32)), [(f"k{n}", "1") for n in range(32)]),
    ],
)  # fmt: skip
def test_a_valid_tracestate_is_read_in_order(text, members):
    assert parse_tracestate(text) == tuple(members)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "foo=1,foo=1",
        "foo=1,foo=2",
        "foo =1",
        "FOO=1",
        "foo.bar=1",
        "foo@=1,bar=2",
        "@foo=1,bar=2",
        "foo@@bar=1,bar=2",
        "foo@bar@baz=1,bar=2",
        "0foo=1",
        "foo",
        "foo=",
        "foo=bar=baz",
        "foo=\x7f",
        "foo=é",
        "z" * 257 + "=1",
        "t" * 242 + "@v=1",
        "t@" + "v" * 15 + "=1",
        "foo=" + "v" * 257,
        ",".join(f"k{n}=1" for n in range(33)),
    ],
)
def test_an_invalid_tracestate_is_dropped_as_a_whole(text):
    assert parse_tracestate(text) == ()


def test_an_invalid_tracestate_leaves_the_traceparent():
    context = parse_traceparent(GOOD, "FOO=1")
    assert context.headers() == [("traceparent", GOOD)]


def test_a_child_keeps_trace_flag_and_state_and_has_a_new_span():
    parent = parse_traceparent(GOOD, "foo=1")
    called = child(parent, Random(1))
    assert called.parent_id != parent.parent_id
    assert (called.trace_id, called.sampled, called.state) == (TRACE, True, (("foo", "1"),))
    assert called.headers() == [("traceparent", f"00-{TRACE}-{called.parent_id}-01"), ("tracestate", "foo=1")]


def test_a_child_of_nothing_begins_a_trace():
    begun = child(None, Random(1))
    assert parse_traceparent(begun.traceparent) == begun == new_trace(Random(1))


@pytest.mark.parametrize("context", [None, TraceContext("1" * 32, "2" * 16, True, (("a", "b"),))])
def test_the_headers_of_a_call_are_those_of_a_child(context):
    headers = dict(call_headers(context, Random(1)))
    made = parse_traceparent(headers[b"traceparent"].decode())
    assert made.parent_id != "2" * 16
    assert context is None or made.trace_id == context.trace_id
    assert made.sampled is (context is not None)
    assert headers.get(b"tracestate") == (None if context is None else b"a=b")


def test_an_id_is_never_all_zero():
    class Zeros(Random):
        drawn = 0

        def getrandbits(self, bits):
            self.drawn += 1
            return 0 if self.drawn % 2 else 7

    assert new_trace(Zeros()).traceparent == f"00-{'0' * 31}7-{'0' * 15}7-00"


def test_a_tracestate_beyond_512_characters_loses_long_members_first_then_the_oldest():
    state = [("long", "v" * 200), *((f"k{n}", "v" * 90) for n in range(6))]
    context = TraceContext(TRACE, SPAN, sampled=False, state=tuple(state))
    assert context.tracestate == ",".join(f"k{n}={'v' * 90}" for n in range(5))


@given(st.text())
def test_no_header_whatever_it_holds_raises(text):
    parse_traceparent(text, text)


keys = st.from_regex(r"[a-z][a-z0-9_*/-]{0,20}", fullmatch=True)
values = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=",="), min_size=1, max_size=10
)


@given(
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.dictionaries(keys, values, max_size=15),
)
def test_what_is_written_is_read_back(trace_id, span, sampled, state):
    context = TraceContext(f"{trace_id:032x}", f"{span:016x}", sampled, tuple(state.items()))
    assert parse_traceparent(context.traceparent, context.tracestate) == context
