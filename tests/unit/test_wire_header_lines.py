"""Headers as lines: whatever they hold, each stays within its own."""

import re

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from econeura_daemon.wire import header_lines

NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

names = st.sampled_from([b"a", b"X-Request-Id", b"", b"a b", b"a:", b"\xe4", b"a\r\nb"]) | st.binary(
    max_size=4
)
values = st.binary(max_size=12) | st.sampled_from(
    [b"1\r\n", b"\r\n", b"\n", b"\r", b"1\r\nX: 2", b"\0", b"\t \xff"]
)


@given(st.lists(st.tuples(names, values), max_size=4))
@example([(b"a", b"\r"), (b"b", b"\n")])
@example([(b"a", b"1\r\n"), (b"b", b"2")])
def test_a_header_is_written_in_its_own_line_or_not_at_all(headers):
    if all(NAME.fullmatch(name) and VALUE.fullmatch(value) for name, value in headers):
        assert header_lines(headers) == b"".join(b"%b: %b\r\n" % pair for pair in headers)
    else:
        with pytest.raises(httpx.LocalProtocolError, match="is not valid"):
            header_lines(headers)


def test_what_is_refused_is_named():
    with pytest.raises(httpx.LocalProtocolError, match=r"the header b'Second' is not valid"):
        header_lines([(b"First", b"1"), (b"Second", b"2\r\nThird: 3"), (b"Fourth", b"4")])
