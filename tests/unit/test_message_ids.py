import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.worker.mailstore.message_ids import LONGEST, derived_id, id_in, normalised

_ATOMS = st.text("abcXYZ019!#$%&'*+-/=?^_`{|}~.", min_size=1, max_size=60).filter(
    lambda text: "=?" not in text
)
_IDS = st.builds("{}@{}".format, _ATOMS, _ATOMS)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("<a@b>", "a@b"),
        ("  <a@b>  ", "a@b"),
        ("a@b", "a@b"),
        ("<a@b", "a@b"),
        ("<\r\n a@b>", "a@b"),
        ("<a\r\n\t@b>", "a@b"),
        ("(first try) <a@b>", "a@b"),
        ("<> <a@b>", "a@b"),
        ("<a@b> <c@d>", "a@b"),
        ("<a@b>\x00", "a@b"),
        ('<"a b"@c>', '"ab"@c'),
        ("<A@b>", "A@b"),
        ("=?utf-8?q?=3Ca=40b=3E?=", "a@b"),
        ("=?utf-8?b?PGFAYj4=?=", "a@b"),
        ("=?nonsense?q?=3Ca=40b=3E?=", "=?nonsense?q?=3Ca=40b=3E?="),
        ("=?utf-8?b?x?=", "=?utf-8?b?x?="),
        ("=?utf-8?q?=3D=3Futf-8=3Fq=3Fa=3F=3D?=", "a"),
        ("<ñ@b>", "ñ@b"),
        ("", ""),
        ("<>", ""),
        (" \t", ""),
    ],
)
def test_one_spelling_for_whatever_is_written(written, found):
    assert normalised(written) == found
    assert normalised(found) == found


@given(_IDS, st.sampled_from(["{}", "<{}>", " <{}>", "<{}> \r\n", "\r\n <{}>", "<{}> (comment)"]))
def test_every_way_to_write_an_id_finds_the_same_mail(identifier, way):
    assert normalised(way.format(identifier)) == normalised(identifier) == identifier


@given(st.text())
def test_a_normalised_id_stays_as_it_is_and_fits_a_line(text):
    found = normalised(text)
    assert normalised(found) == found
    assert len(found) <= LONGEST
    assert found.isprintable() or not found.isascii()


@given(_IDS, st.data())
def test_an_id_that_is_folded_anywhere_is_found(identifier, data):
    at = data.draw(st.integers(0, len(identifier)))
    head = f"Subject: x\r\nMessage-Id:\r\n <{identifier[:at]}\r\n {identifier[at:]}>\r\nTo: y\r\n".encode()
    assert id_in(head) == identifier


@given(_IDS)
def test_ids_that_pythons_own_library_writes_are_found(identifier):
    for policy in (email.policy.SMTP, email.policy.compat32, email.policy.default):
        written = (
            email.message.EmailMessage() if policy is email.policy.SMTP else email.message.Message(policy)
        )
        written["Subject"] = "x"
        written["Message-ID"] = f"<{identifier}>"
        assert id_in(written.as_bytes(policy=policy)) == identifier


def test_the_first_field_that_has_an_id_counts():
    assert id_in(b"Message-ID: <>\nmessage-id : <a@b>\nMESSAGE-ID: <c@d>\n") == "a@b"
    assert id_in(b"X-Message-ID: <x@y>\nMessage-IDs: <x@y>\nSubject: Message-ID: <x@y>\n") == ""
    assert id_in(b"Subject: a\n Message-ID: <folded@subject>\n") == ""
    assert id_in(b"Message-ID: <mac@nine>\rSubject: a\r") == "mac@nine"


def test_a_very_long_id_is_found_by_itself_and_shown_short():
    long = "x" * 10_000 + "@example.com"
    shown = id_in(f"Message-ID: <{long}>\n".encode())
    assert shown == normalised(long) == normalised(shown)
    assert shown.startswith("sha256:")
    assert len(shown) < 100


@given(st.binary(), st.binary())
def test_no_header_block_is_too_odd(head, body):
    assert id_in(head).isprintable() or not id_in(head).isascii()
    assert derived_id(head, body) == derived_id(head, body)


def test_a_derived_id_follows_the_mail_through_line_ends_and_the_fields_of_mailboxes():
    head, body = b"Subject: a\nTo: b\n", b"Hello\n"
    there = derived_id(head, body)
    assert derived_id(head.replace(b"\n", b"\r\n"), body.replace(b"\n", b"\r\n")) == there
    assert derived_id(b"Subject: a\nStatus: RO\nX-Status: A\nTo: b\n", b"Hello\n\n") == there
    assert derived_id(head, b"Hullo\n") != there
    assert derived_id(b"Subject: c\nTo: b\n", body) != there
