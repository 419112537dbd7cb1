"""In which language a text is written, by py3langid's model, which is loaded once in a process."""

import os
from functools import cache
from typing import Any

TEXT_LIMIT = 4000
"""Characters that are looked at; more change nothing."""
MIN_LETTERS = 8
UNKNOWN = "und"
_NOT_A_LANGUAGE = "zxx"
_SURE = 0.4
_PREFERENCE = 6.0
"""How many times likelier the languages that are expected are taken to be than others: short texts are ambiguous."""


@cache
def _identifier() -> Any:
    # Its arrays are small: threads of the linear algebra library would only cost memory and processors.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def load() -> None:
    """Load the model now, about a second, and not at the first mail."""
    _identifier()


def language_of(text: str, expected: tuple[str, ...], hint: str = "") -> str:
    """Return an ISO 639 code (of two letters where there is one), `UNKNOWN` where the text is too short or like none.

    ``hint`` is what the mail says of itself (Content-Language); it is believed where the text does not tell.
    """
    text = text[:TEXT_LIMIT]
    said = hint.strip().lower()[:2]
    said = said if said.isalpha() and said.isascii() and len(said) == 2 else UNKNOWN
    if sum(map(str.isalpha, text)) < MIN_LETTERS:
        return said
    ranked = [(p * (_PREFERENCE if code in expected else 1.0), code) for code, p in _identifier().rank(text)]
    likelihood, code = max(ranked)
    return str(code) if code != _NOT_A_LANGUAGE and likelihood >= _SURE * sum(p for p, _ in ranked) else said
