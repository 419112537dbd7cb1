"""The rules file: what is wrong is said with its place, and patterns find what they say."""

from pathlib import Path

import pytest

from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.worker.processing import DEFAULT_RULES, Rules, process
from econeura_daemon.worker.processing.words import Pattern, Words, fold


@pytest.mark.parametrize(
    ("pattern", "text", "is_there"),
    [
        ("factura", "La FACTURA, por favor", True),
        ("señal", "SEÑAL", True),
        ("senal", "señal", True),
        ("factura", "facturas", False),
        ("factur*", "Facturación", True),
        ("no funciona", "Ya no funciona nada", True),
        ("no funciona", "No, funciona bien", False),
        ("no funciona", "no me funciona", False),
        ("no ... funciona", "no me ha vuelto a funciona", True),
        ("no ... funciona", "no uno dos tres cuatro cinco funciona", False),
        ("no ... funciona", "no. Si funciona", False),
        ("no ... funciona bien", "no funciona y no funciona bien", True),
        ("don't know", "I don\u2019t know", True),
        ("cv", "mi C.V.", False),
        ("*", "algo", True),
        ("*", " .,", False),
        ("24h", "abierto 24h", True),
        ("你好", "你好", True),
        ("straße", "STRASSE", True),
    ],
)
def test_a_pattern_finds_what_it_says(pattern, text, is_there):
    assert bool(Words(text).places(Pattern.parse(pattern))) is is_there


@pytest.mark.parametrize(
    "text", ["", " ", "...", "a ...", "... a", "a ... ... b", "50%", "a.b", "(a)", "*a", "a*b"]
)
def test_what_is_no_pattern_is_refused(text):
    with pytest.raises(ValueError, match="pattern"):
        Pattern.parse(text)


def test_folding_leaves_letters_alone():
    assert fold("Ñandú ÉL ﬁn") == "nandu el fin"


BROKEN = """
languages = ["es"]
general = { act_at = 2 }

[categories.Factura]
action = "forward"
[[categories.Factura.rules]]
weight = -1
where = ["subject", "boddy"]
any = ["factura", "100%"]

[categories.queja]
acton = "archive"
rules = []

[phones]
regions = { default = ["es"] }
"""


def test_every_mistake_is_named_with_its_line(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(BROKEN, encoding="utf-8")
    with pytest.raises(InvalidInputError) as caught:
        Rules.load(path)
    said = {flaw.path.rpartition(":")[2]: [] for flaw in caught.value.flaws}
    for flaw in caught.value.flaws:
        assert flaw.path.startswith(f"{path}:")
        said[flaw.path.rpartition(":")[2]].append(flaw.message)
    said = {int(line): " ".join(messages) for line, messages in said.items()}
    assert sorted(said) == [3, 5, 8, 9, 10, 13, 17]
    assert "act_at" in said[3]
    assert "small letters" in said[5]
    assert "'boddy'" in said[9]
    assert "'100%' is no pattern" in said[10]
    assert "did you mean 'action'" in said[13]


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (b"a = = 1", ":1", "not valid TOML"),
        (b"a = 1\nb = '\xff'", ":2", "not UTF-8"),
        (None, "", "cannot be read"),
        (b"#" * 1024 * 1024 + b"\n", "", "longer than"),
        (b'[categories.a]\naction = "forward"\nrules = []', ":1", "forward_to belongs"),
    ],
)
def test_a_file_that_cannot_be_taken_is_refused_with_its_name(tmp_path, content, where, what):
    path = tmp_path / "rules.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=what) as caught:
        Rules.load(path)
    assert caught.value.flaws[0].path == f"{path}{where}"


def judged(rules_text, raw, tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(rules_text, encoding="utf-8")
    return process(raw, Rules.load(path))


RULES = """
[general]
evidence = 2
act_at = 0.5
[categories.a]
action = "forward"
forward_to = "office@example.com"
[[categories.a.rules]]
weight = 3
any = ["uno", "dos", "tres"]
[[categories.b.rules]]
weight = 3
any = ["cuatro"]
[[categories.c.rules]]
weight = 1
where = ["header:X-Kind"]
any = ["*"]
"""


@pytest.mark.parametrize(
    ("subject", "body", "category", "confidence", "action"),
    [
        ("", "uno", "a", 3 / (3 + 0 + 2), "forward"),
        ("", "uno dos", "a", 4.5 / (4.5 + 0 + 2), "forward"),
        ("uno", "dos", "a", 9 / (9 + 0 + 2), "forward"),
        ("", "uno cuatro", "a", 3 / (3 + 3 + 2), "none"),
        ("", "cinco", "general", 2 / (2 + 0 + 1) * 1 / 11, "none"),
    ],
)
def test_confidence_is_what_the_formula_says(tmp_path, subject, body, category, confidence, action):
    raw = f"From: a@example.com\nSubject: {subject}\nX-Kind: some\n\n{body}\n".encode()
    processed = judged(RULES, raw, tmp_path)
    second = 1.0 if category == "a" and confidence != 3 / 8 else 0.0
    if category == "a" and second:
        best = {0.6: 3.0, 4.5 / 6.5: 4.5, 9 / 11: 9.0}[confidence]
        confidence = best / (best + 1 + 2)
    assert processed.category == category
    assert processed.confidence == pytest.approx(confidence, abs=0.001)
    assert processed.action == action
    assert processed.forward_to == ("office@example.com" if action == "forward" else None)


@pytest.mark.parametrize(
    ("body", "sentiment", "urgency"),
    [
        ("Estoy muy contenta con el resultado", "positive", "normal"),
        ("No estoy contenta con el resultado", "negative", "normal"),
        ("I am not happy with it", "negative", "normal"),
        ("It isn't great work", "negative", "normal"),
        ("Es urgente", "neutral", "high"),
        ("No es urgente", "neutral", "low"),
        ("No, gracias. Es urgente", "neutral", "high"),
    ],
)
def test_a_negation_turns_what_follows_it(body, sentiment, urgency):
    processed = process(f"From: a@example.com\nContent-Type: text/plain\n\n{body}.\n".encode(), Rules.load())
    assert (processed.sentiment, processed.urgency) == (sentiment, urgency)


def test_what_is_quoted_is_not_judged():
    quoted = "Gracias por todo.\n\nEl lunes, Ana escribió:\n> La factura es un desastre y es urgente.\n"
    processed = process(
        f"From: a@example.com\nContent-Type: text/plain; charset=utf-8\n\n{quoted}".encode(), Rules.load()
    )
    assert (processed.category, processed.urgency) == ("general", "normal")


def test_the_configuration_has_the_rules_of_the_package():
    assert (Path(__file__).parents[2] / "config" / "email_rules.toml").resolve() == DEFAULT_RULES.resolve()
