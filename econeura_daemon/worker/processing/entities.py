"""What a text names: addresses, links, IBANs, amounts, dates and telephone numbers.

Each kind is looked for in what the kinds before it left, so that no IBAN gives a telephone number, and no date an
amount. What is found is given once, in the order in which it stands there, and at most `MAX_EACH` of a kind.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from econeura_daemon.worker.processing.amounts import find_amounts
from econeura_daemon.worker.processing.dates import find_dates
from econeura_daemon.worker.processing.ibans import find_ibans
from econeura_daemon.worker.processing.phones import find_phones

TEXT_LIMIT = 32 * 1024
"""Characters that are looked at."""
MAX_EACH = 50
_URL = re.compile(r"(?i)\b(?:https?://|www\.)[^\s<>\"'`{}|\\^\[\]]{3,2000}")
_ADDRESS = re.compile(r"(?<![\w.+%-])[\w.+%'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_TRAILING = ".,;:!?)'\"*_»”"
Found = tuple[int, int, Any]
"""Where it begins, where it ends, and what it is."""


def find_entities(
    text: str, *, links: Iterable[str] = (), is_day_first: bool, regions: Sequence[str]
) -> Mapping[str, list[Any]]:
    """Return what was found by kind; kinds without anything are left out."""
    rest = text[:TEXT_LIMIT]
    kinds: list[tuple[str, Callable[[str], list[Found]]]] = [
        ("urls", _urls),
        ("emails", _addresses),
        ("ibans", find_ibans),
        ("dates", lambda left: find_dates(left, is_day_first=is_day_first)),
        ("amounts", find_amounts),
        ("phones", lambda left: find_phones(left, regions)),
    ]
    found: dict[str, list[Any]] = {}
    for kind, find in kinds:
        places = find(rest)
        rest = _without(rest, places)
        values = [value for _, _, value in places]
        if kind == "urls":
            values += [link for link in links if link.lower().startswith("http")]
        elif kind == "emails":
            values += [
                link[7:].partition("?")[0].lower() for link in links if link.lower().startswith("mailto:")
            ]
            values = [value for value in values if _ADDRESS.fullmatch(value)]
        if unique := _unique(values):
            found[kind] = unique
    return found


def _unique(values: Iterable[Any]) -> list[Any]:
    seen: dict[str, Any] = {}
    for value in values:
        seen.setdefault(str(value), value)
        if len(seen) >= MAX_EACH:
            break
    return list(seen.values())


def _without(text: str, places: Iterable[Found]) -> str:
    """Put something that is of no kind where something was found; what is around it stays apart."""
    pieces: list[str] = []
    at = 0
    for start, end, _ in places:
        pieces += (text[at:start], " ; ")
        at = end
    return "".join((*pieces, text[at:]))


def _urls(text: str) -> list[Found]:
    found: list[Found] = []
    for match in _URL.finditer(text):
        url = match[0].rstrip(_TRAILING)
        if ")" in match[0][len(url) :] and url.count("(") > url.count(")"):
            url += ")"
        found.append((match.start(), match.start() + len(url), url))
    return found


def _addresses(text: str) -> list[Found]:
    found: list[Found] = []
    for match in _ADDRESS.finditer(text):
        address = match[0].rstrip(".-_").lstrip("'.-")
        found.append((match.start(), match.end(), address.lower()))
    return found
