"""Words of a text, folded, and the patterns that people write to find them.

A pattern is one or more words: ``factura`` is that word, whatever its accents and capitals; ``factur*`` any word that
begins so; ``no funciona`` these two beside each other; ``no ... funciona`` with up to four words between; ``*``
alone is met by anything. A phrase does not reach over the end of a sentence or a comma. There are no regular
expressions to write, so nobody can write one that takes for ever: a pattern is looked up in an index of the words.
"""

import itertools
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Set as AbstractSet
from functools import cached_property

import attrs

GAP = 4
"""Words that ``...`` may stand for, at most."""
MAX_WORDS = 10_000
MAX_HITS = 20
"""Places of one pattern that are looked at."""
_TOKEN = re.compile(r"[0-9]+(?:[.,][0-9]+)+|[^\W_]+(?:'[^\W_]+)*|[.,;:!?¡¿()]|\n\s*\n")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*\*?")
_STOP = ""
"""Stands among the words where a phrase cannot go on."""


def fold(text: str) -> str:
    """Return the text without accents and capitals: ``Señal`` is ``senal``, ``ﬁn`` is ``fin``."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.replace("\u2019", "'").replace("\u00b4", "'"))
    return "".join(character for character in decomposed if not unicodedata.combining(character)).casefold()


@attrs.frozen
class Pattern:
    """One pattern. Each element is a word, and whether it is only the beginning of one; None is the gap."""

    text: str
    elements: tuple[tuple[str, bool] | None, ...]

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read a pattern. Raises ValueError with a sentence for whoever wrote it."""
        if text.strip() == "*":
            return cls(text, ())
        elements: list[tuple[str, bool] | None] = []
        for part in fold(text).replace("…", "...").split():
            if part == "...":
                elements.append(None)
            elif _WORD.fullmatch(part):
                elements.append((part.removesuffix("*"), part.endswith("*")))
            else:
                raise ValueError(
                    f"{text!r} is no pattern: {part!r} is neither a word, a beginning of one (factur*) nor ..."
                )
        if not elements:
            raise ValueError("a pattern needs a word")
        if None in {elements[0], elements[-1]} or (None, None) in itertools.pairwise(elements):
            raise ValueError(f"{text!r} is no pattern: ... stands between two words")
        return cls(text, tuple(elements))

    @property
    def first_word(self) -> str | None:
        """The word with which it begins, None if that is only the beginning of one, or anything."""
        first = self.elements[0] if self.elements else None
        return None if first is None or first[1] else first[0]


class Words:
    """The words of one text, in order, and where each stands."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        self._places: dict[str, list[int]] = {}
        for number, match in enumerate(_TOKEN.finditer(fold(text))):
            if number >= MAX_WORDS:
                break
            token = match[0]
            if not token[0].isalnum():
                self.tokens.append(_STOP)
                continue
            self._places.setdefault(token, []).append(number)
            self.tokens.append(token)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def vocabulary(self) -> AbstractSet[str]:
        """Each word once."""
        return self._places.keys()

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._places)

    def places(self, pattern: Pattern) -> list[int]:
        """Return where the pattern begins, at most `MAX_HITS` times."""
        if not pattern.elements:
            return [0] if self._places else []
        first = pattern.elements[0]
        assert first is not None, "a gap is never first"
        hits = []
        for place in self._candidates(*first):
            if self._goes_on(pattern.elements, 1, place + 1):
                hits.append(place)
                if len(hits) >= MAX_HITS:
                    break
        return hits

    def _candidates(self, word: str, is_beginning: bool) -> list[int]:  # noqa: FBT001 - an element, taken apart
        if not is_beginning:
            return self._places.get(word, [])
        found: list[int] = []
        for number in range(bisect_left(self._sorted, word), len(self._sorted)):
            if not self._sorted[number].startswith(word):
                break
            found += self._places[self._sorted[number]]
        return sorted(found)

    def _goes_on(self, elements: tuple[tuple[str, bool] | None, ...], number: int, place: int) -> bool:
        while number < len(elements):
            element = elements[number]
            if element is None:
                return self._goes_on_later(elements, number + 1, place)
            if place >= len(self.tokens) or not _fits(element, self.tokens[place]):
                return False
            number += 1
            place += 1
        return True

    def _goes_on_later(self, elements: tuple[tuple[str, bool] | None, ...], number: int, place: int) -> bool:
        for later in range(place, min(place + GAP + 1, len(self.tokens))):
            if self.tokens[later] == _STOP:
                return False
            if self._goes_on(elements, number, later):
                return True
        return False

    def is_negated(self, place: int, negations: frozenset[str], window: int) -> bool:
        """Whether one of the ``negations`` stands up to ``window`` words before, in the same clause."""
        for before in range(place - 1, max(place - 1 - window, -1), -1):
            if self.tokens[before] == _STOP:
                return False
            if self.tokens[before] in negations or self.tokens[before].endswith("n't"):
                return True
        return False


def _fits(element: tuple[str, bool], token: str) -> bool:
    word, is_beginning = element
    return token.startswith(word) if is_beginning else token == word
