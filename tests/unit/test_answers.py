"""What is read out of a receiver's answer."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.webhooks.answers import kept_headers, retry_after_ms

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
YEAR = 366 * 24 * 3600 * 1000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        ("120", 120_000),
        (" 7 ", 7_000),
        ("9" * 10, YEAR),
        ("9" * 5000, YEAR),
        ("Tue, 24 Nov 2026 02:01:00 GMT", 60_000),
        ("Tuesday, 24-Nov-26 02:01:00 GMT", 60_000),
        ("Tue Nov 24 02:01:00 2026", 60_000),
        ("Tue, 24 Nov 2026 04:01:00 +0200", 60_000),
        ("Tue, 24 Nov 2020 02:01:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", YEAR),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("Tue, 99 Nov 2026 02:01:00 GMT", None),
        ("Tue, 24 Nov 99999999999 02:01:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, expected):
    assert retry_after_ms(value, NOW) == expected


@given(st.text())
def test_any_other_text_asks_for_nothing(value):
    assert retry_after_ms(value, NOW) is None or 0 <= retry_after_ms(value, NOW) <= YEAR


@given(st.lists(st.tuples(st.binary(max_size=3000), st.binary(max_size=3000))))
def test_kept_headers_are_bounded(raw):
    kept = kept_headers(raw)
    assert len(kept) <= 64
    assert sum(len(name) + len(value) for name, value in kept.items()) <= 8 * 1024 + 2 * 64


def test_headers_are_kept_in_lower_case_and_repeated_ones_joined():
    raw = [(b"X-A", b"1"), (b"Set-Cookie", b"a"), (b"set-cookie", b"\xe9")]
    assert kept_headers(raw) == {"x-a": "1", "set-cookie": "a, é"}
