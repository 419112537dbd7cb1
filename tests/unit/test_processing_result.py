"""From a mail to its result: the judgement by the rules that come with the package, and what the text names."""

import pickle

import pytest

from econeura_daemon.worker.processing import Rules, UnprocessableError, process
from tests.support.cpython_mails import cpython_mails


@pytest.fixture(scope="module")
def rules():
    return Rules.load()


def mail(body, subject="A question", extra="", sender="Ana <ana@example.com>"):
    return (
        f"From: {sender}\nTo: help@example.org\nSubject: {subject}\nDate: Tue, 24 Nov 2026 10:00:00 +0000\n"
        f"Content-Type: text/plain; charset=utf-8\n{extra}\n{body}"
    ).encode()


def test_the_result_has_the_shape_of_the_contract(rules):
    processed = process(mail("Buenos días: adjunto la factura 12, por 500 €. Es urgente.\n"), rules)
    assert processed.as_result() == {
        "processed": True,
        "action": "categorize",
        "confidence": processed.confidence,
        "metadata": {
            "category": "invoice",
            "sentiment": "neutral",
            "urgency": "high",
            "language": "es",
            "entities": {"amounts": [{"amount": "500", "currency": "EUR"}]},
        },
        "processingTime": processed.milliseconds,
    }
    assert 0 < processed.confidence < 1
    assert processed.milliseconds > 0


def test_a_malformed_mail_has_a_result_that_names_its_defects(rules):
    raw = mail("Hello, is the meeting tomorrow?").replace(b"text/plain;", b"multipart/mixed;")
    result = process(raw, rules).as_result()
    assert result["metadata"]["category"] == "meeting"
    assert result["metadata"]["defects"] == ["a multipart says no boundary"]


@pytest.mark.parametrize(
    "raw", [b"", b"\n\n", b"Only text, without a head.\n", bytes(range(256)) * 10, b"\xff\xd8\xff\xe0"]
)
def test_what_is_no_mail_is_refused_with_a_reason(rules, raw):
    with pytest.raises(UnprocessableError, match="cannot be processed: it "):
        process(raw, rules)


def test_rules_can_be_sent_to_another_process(rules):
    again = pickle.loads(pickle.dumps(rules))
    raw = mail("No funciona la aplicación.")
    assert process(raw, again).as_result()["metadata"] == process(raw, rules).as_result()["metadata"]


@pytest.mark.slow  # the mails are in a package of their own
def test_every_mail_of_cpythons_tests_has_a_result_or_a_named_refusal(rules):
    refused = []
    for path in cpython_mails():
        try:
            result = process(path.read_bytes(), rules).as_result()
        except UnprocessableError as error:
            refused.append((path.name, error.reason))
        else:
            assert set(result) == {"processed", "action", "confidence", "metadata", "processingTime"}
            assert 0 <= result["confidence"] < 1
    assert refused == [("msg_19.txt", "it does not begin with header fields, so it is no mail")]
