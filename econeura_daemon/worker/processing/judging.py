"""What a mail is about, how it sounds, how it presses, and what to do with it: sums of what the rules found.

A rule that meets ``n`` different patterns in a field gives its weight times ``2 - 2 ** (1 - n)``: 1, 1.5, 1.75, so that
ten synonyms do not outweigh all else. What is met in the subject counts double.

The confidence of a category is ``s / (s + t + e)``: ``s`` its own sum, ``t`` that of the next one, and ``e`` the
evidence that any category must bring (``general.evidence``). So it grows with what speaks for the category, is
below a half where two say the same, and never 1. Where no category brings ``e``, the mail is general with
``e / (e + s + t)``, times ``n / (n + 10)`` for its ``n`` words: of a mail that says nothing nothing is known.
"""

from collections.abc import Callable, Iterable, Mapping

import attrs

from econeura_daemon.worker.processing.rules import Rule, Rules
from econeura_daemon.worker.processing.words import Words

SUBJECT_FACTOR = 2.0
_SENTIMENT_AT = 0.3
"""Of the balance ``(p - n) / (p + n + 1)`` of what is positive and negative, from where on it is called so."""


@attrs.frozen
class Judgement:
    """The verdicts."""

    category: str
    confidence: float
    sentiment: str
    urgency: str
    action: str
    forward_to: str | None


class Fields:
    """The words of a mail by field, each made when a rule asks for it."""

    def __init__(self, texts: Mapping[str, str], header: Callable[[str], str]) -> None:
        self._texts = texts
        self._header = header
        self._words: dict[str, Words] = {}

    def __getitem__(self, name: str) -> Words:
        words = self._words.get(name)
        if words is None:
            text = self._texts.get(name, "")
            if name.startswith("header:"):
                text = self._header(name.removeprefix("header:").lower())
            words = self._words[name] = Words(text)
        return words


def judge(fields: Fields, rules: Rules) -> Judgement:
    """Judge a mail by the rules."""
    category, confidence = _category(fields, rules)
    settings = rules.file.categories.get(category)
    general = rules.file.general
    action, forward_to, bias = general.action, None, 0.0
    if settings is not None:
        action, forward_to, bias = settings.action, settings.forward_to, settings.urgency
    if confidence < general.act_at:
        action, forward_to = "none", None
    return Judgement(
        category,
        round(confidence, 3),
        _sentiment(fields, rules),
        _urgency(fields, rules, bias),
        action,
        forward_to,
    )


def _category(fields: Fields, rules: Rules) -> tuple[str, float]:
    sums = sorted(
        (
            (sum(_met(fields, rule) for rule in of_it), category)
            for category, of_it in rules.categories.items()
        ),
        key=lambda pair: -pair[0],
    )
    evidence = rules.file.general.evidence
    best, category = sums[0] if sums else (0.0, "")
    next_best = sums[1][0] if len(sums) > 1 else 0.0
    if best >= evidence:
        return category, best / (best + next_best + evidence)
    count = len(fields["body"]) + len(fields["subject"])
    return rules.file.general.category, evidence / (evidence + best + next_best) * count / (count + 10)


def _met(fields: Fields, rule: Rule) -> float:
    total = 0.0
    for name in rule.where:
        words = fields[name]
        if len(words):
            total += _worth(rule, name, sum(1 for _ in rule.met_in(words)))
    return total


def _worth(rule: Rule, name: str, count: int) -> float:
    factor = SUBJECT_FACTOR if name == "subject" else 1.0
    return rule.weight * factor * (2 - 2 ** (1 - count)) if count else 0.0


def _split(fields: Fields, of_it: Iterable[Rule], rules: Rules) -> tuple[float, float]:
    """Return what was met plainly, and what was met after a negation."""
    window = rules.file.negation.window
    plain = negated = 0.0
    for rule in of_it:
        for name in rule.where:
            words = fields[name]
            counts = [0, 0]
            for _, places in rule.met_in(words):
                counts[all(words.is_negated(place, rules.negations, window) for place in places)] += 1
            plain += _worth(rule, name, counts[0])
            negated += _worth(rule, name, counts[1])
    return plain, negated


def _sentiment(fields: Fields, rules: Rules) -> str:
    """Not being happy is to be unhappy; having no problem is neither."""
    positive, not_positive = _split(fields, rules.positive, rules)
    negative, _ = _split(fields, rules.negative, rules)
    negative += not_positive
    balance = (positive - negative) / (positive + negative + 1)
    if balance >= _SENTIMENT_AT:
        return "positive"
    return "negative" if balance <= -_SENTIMENT_AT else "neutral"


def _urgency(fields: Fields, rules: Rules, bias: float) -> str:
    raised, not_raised = _split(fields, rules.raises, rules)
    lowered, _ = _split(fields, rules.lowers, rules)
    total = raised - lowered - not_raised + bias
    file = rules.file.urgency
    if total >= file.urgent_at:
        return "urgent"
    if total >= file.high_at:
        return "high"
    return "low" if total <= file.low_at else "normal"
