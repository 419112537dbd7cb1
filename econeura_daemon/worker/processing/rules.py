"""The rules by which mails are judged: read from a file that people edit, checked as a whole, ready to be used."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from econeura_daemon.core.errors import Flaw, InvalidInputError
from econeura_daemon.core.settings_layers import toml_layer
from econeura_daemon.core.structuring import structure_settings
from econeura_daemon.worker.processing.rules_file import RulesFile, WordRule, misnamed
from econeura_daemon.worker.processing.words import Pattern, Words, fold

SIZE_LIMIT = 1024 * 1024
DEFAULT_RULES = Path(__file__).with_name("email_rules.toml")
"""The rules that come with the package."""


@attrs.frozen
class Rule:
    """A rule with its patterns read: those that begin with a whole word by this word, and the others."""

    by_word: Mapping[str, tuple[Pattern, ...]]
    others: tuple[Pattern, ...]
    weight: float
    where: tuple[str, ...]

    def met_in(self, words: Words) -> Iterator[tuple[Pattern, list[int]]]:
        """Return the patterns that are there, and where each begins."""
        for word in self.by_word.keys() & words.vocabulary:  # a mail has few of the words that rules have
            for pattern in self.by_word[word]:
                if places := words.places(pattern):
                    yield pattern, places
        for pattern in self.others:
            if places := words.places(pattern):
                yield pattern, places


class Rules:
    """Checked rules. They can be pickled: what is pickled is the file's text."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.file = _checked(text, name)
        self.categories: Mapping[str, tuple[Rule, ...]] = {
            category: _ready(rules.rules) for category, rules in self.file.categories.items()
        }
        self.positive = _ready(self.file.sentiment.positive)
        self.negative = _ready(self.file.sentiment.negative)
        self.raises = _ready(self.file.urgency.raises)
        self.lowers = _ready(self.file.urgency.lowers)
        self.negations = frozenset(map(fold, self.file.negation.words))

    def __repr__(self) -> str:
        return f"<Rules of {self.name}: {', '.join(self.categories)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Rules, (self.text, self.name))

    @classmethod
    def load(cls, path: Path | str | None = None) -> "Rules":
        """Read a rules file, the package's own if none is named; it blocks.

        Raises `InvalidInputError` with every mistake, each with its file and line; OSError never.
        """
        path = Path(path) if path is not None else DEFAULT_RULES
        try:
            with path.open("rb") as file:
                raw = file.read(SIZE_LIMIT + 1)
            if len(raw) > SIZE_LIMIT:
                raise _refused(str(path), f"longer than {SIZE_LIMIT} bytes")
            return cls(raw.decode("utf-8-sig"), str(path))
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise _refused(f"{path}:{line}", "not UTF-8") from None
        except OSError as error:
            raise _refused(str(path), f"cannot be read: {error.strerror or error}") from None


def _refused(where: str, what: str) -> InvalidInputError:
    return InvalidInputError([Flaw(where, what)], "The rules file does not fit")


def _checked(text: str, name: str) -> RulesFile:
    layer = toml_layer(text, name)
    if layer.flaws:
        raise InvalidInputError(layer.flaws, "The rules file does not fit")
    flaws = misnamed(layer.raw.get("categories"))
    try:
        file = structure_settings(layer.raw, RulesFile)
    except InvalidInputError as error:
        flaws += error.flaws
    if flaws:
        placed = [
            Flaw(_place(flaw.path, layer.origins, name), f"{flaw.path}: {flaw.message}") for flaw in flaws
        ]
        raise InvalidInputError(placed, "The rules file does not fit")
    return file


def _place(path: str, origins: Mapping[str, str], name: str) -> str:
    """Return the file and the line of the nearest key around ``path`` whose line is known."""
    while path:
        if path in origins and path != "$":
            return origins[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return name


def _ready(rules: Sequence[WordRule]) -> tuple[Rule, ...]:
    return tuple(_rule(rule) for rule in rules)


def _rule(rule: WordRule) -> Rule:
    by_word: dict[str, tuple[Pattern, ...]] = {}
    others: list[Pattern] = []
    for pattern in dict.fromkeys(map(Pattern.parse, rule.any)):
        word = pattern.first_word
        if word is None:
            others.append(pattern)
        else:
            by_word[word] = (*by_word.get(word, ()), pattern)
    return Rule(by_word, tuple(others), rule.weight, rule.where)
