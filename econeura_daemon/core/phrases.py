"""How a value, a path and a guess are said to the person who wrote the input."""

import difflib
import re
from collections.abc import Iterable, Sequence

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_SHOWN = 60
"""Characters of a foreign value that are shown."""
_LONG_INTEGER_BITS = 128
_KINDS = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def kind_of(raw: object) -> str:
    """Name the kind of a plain value, and nothing of what it holds."""
    return _KINDS.get(type(raw), f"a {type(raw).__name__}")


def described(raw: object) -> str:
    """Show a plain value in a sentence: ``the string 'abc'``, ``true``, ``a list``."""
    match raw:
        case bool():
            return "true" if raw else "false"
        case int():
            return "a very long number" if raw.bit_length() > _LONG_INTEGER_BITS else f"the number {raw}"
        case float():
            return f"the number {raw}"
        case str():
            return f"the string {shortened(raw)!r}"
        case _:
            return kind_of(raw)


def shortened(text: str) -> str:
    """Cut foreign text to a length that fits a message."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def child_path(key: str) -> str:
    """Return the path of a key of the object at ``$``."""
    return f"$.{key}" if _PLAIN_KEY.fullmatch(key) else f"$[{shortened(key)!r}]"


def one_of(names: Sequence[str]) -> str:
    """Return ``'a'``, ``'a' or 'b'``, ``'a', 'b' or 'c'``."""
    *first, last = [repr(name) for name in names]
    return f"{', '.join(first)} or {last}" if first else last


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` was probably meant to be, None if it resembles none."""
    if len(name) > _SHOWN:
        return None
    by_letters = {_letters(candidate): candidate for candidate in known}
    found = difflib.get_close_matches(_letters(name), by_letters, n=1, cutoff=0.7)
    return by_letters[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?``, or nothing."""
    guess = closest(name, known)
    return f"; did you mean {guess!r}?" if guess else ""


def _letters(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
