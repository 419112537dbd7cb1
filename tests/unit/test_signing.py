"""Signatures against the specification's own example, the reference library, and plain hmac."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.webhooks.model import Secret
from econeura_daemon.webhooks.signing import (
    SignatureError,
    Signer,
    Verified,
    econeura_signature,
    new_secret,
    secret_flaw,
    secret_key,
    sign,
    verify,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "webhook_signatures.json").read_text())
TOLERANCE = 300_000
OLD, NEW = "whsec_" + base64.b64encode(b"o" * 32).decode(), "whsec_" + base64.b64encode(b"n" * 32).decode()

ids = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=40)
secret_texts = st.one_of(
    st.binary(min_size=24, max_size=64).map(lambda raw: "whsec_" + base64.b64encode(raw).decode()),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40).filter(
        lambda text: not text.startswith(("whsec_", "whsk_", "whpk_"))
    ),
)


def headers_of(secrets, message_id, timestamp, body):
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secrets, message_id, timestamp, body),
    }


def check(secrets, headers, body, now=1_700_000_000):
    return verify(secrets, headers, body, now_ms=now * 1000, tolerance_ms=TOLERANCE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["source"])
def test_the_published_cases_come_out_and_verify(case):
    body = case["body"].encode()
    made = sign([case["secret"]], case["id"], case["timestamp"], body)
    assert made == case["signature"]
    headers = headers_of([case["secret"]], case["id"], case["timestamp"], body)
    assert check([case["secret"]], headers, body, case["timestamp"]) == Verified("standard", 0)


@given(st.binary(min_size=24, max_size=64), ids, st.text())
def test_the_reference_library_verifies_what_we_sign(raw, message_id, text):
    secret = "whsec_" + base64.b64encode(raw).decode()
    now = int(datetime.now(UTC).timestamp())
    body = text.encode(errors="replace")
    standardwebhooks.Webhook(secret).verify(
        body, headers_of([secret], message_id, now, body), json_parse=False
    )


@given(st.binary(min_size=24, max_size=64), ids, st.text())
def test_we_verify_what_the_reference_library_signs(raw, message_id, text):
    secret = "whsec_" + base64.b64encode(raw).decode()
    body = text.encode(errors="replace")
    instant = datetime.fromtimestamp(1_700_000_000, UTC)
    made = standardwebhooks.Webhook(secret).sign(message_id, instant, body.decode())
    headers = {"Webhook-Id": message_id, "Webhook-Timestamp": "1700000000", "Webhook-Signature": made}
    assert check([secret], headers, body) == Verified("standard", 0)


@given(secret_texts, st.binary())
def test_the_econeura_header_is_plain_hmac_of_the_body(secret, body):
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    expected = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
    assert econeura_signature(secret, body) == expected
    assert check([secret], {"X-Webhook-Signature": expected}, body) == Verified("econeura", 0)


def test_each_live_secret_signs_and_each_alone_verifies():
    body = b"{}"
    headers = headers_of([NEW, OLD], "evt_1", 1_700_000_000, body)
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert check([OLD], headers, body) == Verified("standard", 0)
    assert check([NEW], headers, body) == Verified("standard", 0)
    assert check(["other", OLD], headers, body) == Verified("standard", 1)


def test_a_signer_says_the_same_as_the_plain_functions_and_drops_secrets_that_ran_out():
    signer = Signer.of([Secret(OLD, expires_at=2_000_000), Secret(NEW)])
    body = b'{"a": 1}'
    both = signer.sign("evt_1", 1999, body)
    assert both == (sign([NEW, OLD], "evt_1", 1999, body).encode(), econeura_signature(NEW, body).encode())
    after = signer.sign("evt_1", 2000, body)
    assert after == (sign([NEW], "evt_1", 2000, body).encode(), econeura_signature(NEW, body).encode())


def test_a_signer_without_a_live_secret_does_not_sign():
    assert Signer.of([Secret(OLD, expires_at=1000)]).sign("evt_1", 1, b"") is None
    assert Signer.of([]).sign("evt_1", 1, b"") is None


def test_a_signer_does_not_show_its_secrets():
    assert "ooo" not in repr(Signer.of([Secret("ooo-secret")]))


@pytest.mark.parametrize("off", [-301, 301, -(10**9), 10**9])
def test_a_message_from_another_time_is_refused(off):
    headers = headers_of([NEW], "evt_1", 1_700_000_000 + off, b"")
    with pytest.raises(SignatureError, match="present"):
        check([NEW], headers, b"")


@pytest.mark.parametrize("off", [-300, 0, 300])
def test_a_message_within_the_tolerance_passes(off):
    assert check([NEW], headers_of([NEW], "evt_1", 1_700_000_000 + off, b""), b"") == Verified("standard", 0)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@given(st.data())
def test_no_change_of_any_header_passes(name, data):
    headers = headers_of([NEW], "evt_1", 1_700_000_000, b"body")
    other = data.draw(st.text().filter(lambda text: headers[name] not in text.split(" ")))
    with pytest.raises(SignatureError):
        check([NEW], {**headers, name: other}, b"body")


@given(st.binary().filter(lambda body: body != b"body"))
def test_no_other_body_passes(body):
    with pytest.raises(SignatureError):
        check([NEW], headers_of([NEW], "evt_1", 1_700_000_000, b"body"), body)
    with pytest.raises(SignatureError):
        check([NEW], {"x-webhook-signature": econeura_signature(NEW, b"body")}, body)


def test_a_message_with_both_kinds_must_satisfy_both():
    body = b"body"
    good = {
        **headers_of([NEW], "e", 1_700_000_000, body),
        "X-Webhook-Signature": econeura_signature(NEW, body),
    }
    assert check([NEW], good, body).scheme == "standard"
    with pytest.raises(SignatureError):
        check([NEW], {**good, "X-Webhook-Signature": "sha256=00"}, body)
    with pytest.raises(SignatureError):
        check([NEW], {**good, "webhook-signature": "v1,AAAA"}, body)


def test_other_versions_and_junk_beside_a_good_signature_do_not_hurt():
    headers = headers_of([NEW], "evt_1", 1_700_000_000, b"")
    headers["webhook-signature"] = "v1a,AAAA v2,xx junk , v1, " + headers["webhook-signature"] + " v1,BBBB"
    assert check([NEW], headers, b"") == Verified("standard", 0)


def test_a_flood_of_signatures_is_not_gone_through():
    headers = headers_of([NEW], "evt_1", 1_700_000_000, b"")
    headers["webhook-signature"] = "v1,x " * 64 + headers["webhook-signature"]
    with pytest.raises(SignatureError):
        check([NEW], headers, b"")


def test_without_signatures_or_secrets_nothing_verifies():
    with pytest.raises(SignatureError, match="no signature"):
        check([NEW], {}, b"")
    with pytest.raises(SignatureError):
        check([], headers_of([NEW], "evt_1", 1_700_000_000, b""), b"")
    with pytest.raises(SignatureError):
        check([], {"webhook-signature": "", "webhook-id": "a", "webhook-timestamp": "1700000000"}, b"")


names = st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "X-Webhook-Signature", "x"])


@given(
    st.lists(st.one_of(secret_texts, st.text(), st.text().map("whsec_{}".format)), max_size=3),
    st.dictionaries(names, st.one_of(st.text(), st.just("1700000000"), st.text().map("v1,{}".format))),
    st.binary(),
)
def test_whatever_comes_in_only_our_own_error_is_raised(secrets, headers, body):
    with pytest.raises(SignatureError):
        check(secrets, headers, body)


def test_an_empty_key_vouches_for_nothing():
    forged = {"X-Webhook-Signature": "sha256=" + hmac.new(b"", b"body", hashlib.sha256).hexdigest()}
    for secret in ["", "whsec_"]:
        with pytest.raises(SignatureError):
            check([secret], forged, b"body")


@given(st.binary(min_size=32, max_size=32))
def test_a_new_secret_has_no_flaw_and_is_its_32_bytes(raw):
    secret = new_secret(lambda count: raw[:count])
    assert secret_flaw(secret) is None
    assert secret_key(secret) == raw


@pytest.mark.parametrize(
    ("secret", "word"),
    [
        ("", "empty"),
        ("whsec_", "nothing follows"),
        ("whsec_" + base64.b64encode(b"a" * 23).decode(), "24 to 64"),
        ("whsec_" + base64.b64encode(b"a" * 65).decode(), "24 to 64"),
        ("whsec_!!!", "base64"),
        ("whsec_" + "A" * 33, "base64"),
        ("whsec_-_" + "A" * 42, "base64"),
        ("whsec_é", "base64"),
        ("whsec_" + "A" * 44 + "\n", "base64"),
        ("whsk_AAAA", "v1a"),
        ("whpk_AAAA", "v1a"),
        ("hunter2-hunter2\n", "control"),
        (" hunter2-hunter2", "blank"),
        ("a\x00b", "control"),
        ("\ud800", "control"),
        ("x" * 257, "256"),
        ("é" * 129, "256"),
    ],
)
def test_a_flawed_secret_is_told_its_flaw_and_never_shown(secret, word):
    flaw = secret_flaw(secret)
    assert flaw is not None
    assert word in flaw
    assert not secret[6:] or secret[6:] not in flaw


@pytest.mark.parametrize(
    "secret", ["a", "dev-webhook-secret", "mit Ümlaut und Lücke", NEW, NEW.rstrip("="), "x" * 256]
)
def test_an_ordinary_secret_has_no_flaw(secret):
    assert secret_flaw(secret) is None
    assert secret_key(secret)


@given(st.text())
def test_every_text_is_either_flawed_or_a_key(text):
    if secret_flaw(text) is None:
        assert secret_key(text)
