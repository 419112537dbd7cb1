"""How well the rules of the package judge sixty short mails; run with ``-s`` to see the figures."""

import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from econeura_daemon.worker.processing import Rules, process

MAILS = tomllib.loads((Path(__file__).parents[1] / "cases" / "emails.toml").read_text(encoding="utf-8"))[
    "mail"
]


def show(*lines):
    sys.stdout.write("\n  ".join(map(str, lines)) + "\n")


def bytes_of(case):
    head = [
        f"From: {case.get('from', 'Ana <ana@example.com>')}",
        "To: office@example.org",
        f"Subject: {case['subject']}",
        f"Date: {case.get('date', 'Tue, 24 Nov 2026 10:00:00 +0100')}",
        f"Content-Type: {case.get('content_type', 'text/plain; charset=utf-8')}",
        *case.get("headers", ()),
    ]
    return ("\n".join(head) + "\n\n" + case["body"] + "\n").encode()


@pytest.fixture(scope="module")
def judged():
    rules = Rules.load()
    return [(case, process(bytes_of(case), rules)) for case in MAILS]


@pytest.mark.parametrize(("kind", "at_least"), [("category", 0.95), ("urgency", 0.9), ("sentiment", 0.9)])
def test_mails_are_judged_as_a_person_would(judged, kind, at_least):
    wrong = [
        f"{case['subject']}: {getattr(processed, kind)} for {case[kind]} ({processed.confidence})"
        for case, processed in judged
        if getattr(processed, kind) != case[kind]
    ]
    accuracy = 1 - len(wrong) / len(judged)
    show(f"\n{kind}: {accuracy:.1%} of {len(judged)} mails", *wrong)
    assert accuracy >= at_least, wrong


def test_all_that_a_mail_names_is_found_and_nothing_else(judged):
    wrong = {
        case["subject"]: dict(processed.entities)
        for case, processed in judged
        if dict(processed.entities) != case.get("entities", {})
    }
    show(f"\nentities: {1 - len(wrong) / len(judged):.1%} of {len(judged)} mails", *wrong.items())
    assert not wrong


def test_languages_are_told(judged):
    languages = Counter(processed.language for _, processed in judged)
    assert languages["es"] + languages["en"] >= 0.95 * len(judged)


def test_confidence_is_higher_where_it_is_right(judged):
    right = [p.confidence for case, p in judged if p.category == case["category"]]
    assert len(set(right)) > 20
    assert min(right) > 0.2
    assert sum(right) / len(right) > 0.6
