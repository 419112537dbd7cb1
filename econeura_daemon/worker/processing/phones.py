"""Telephone numbers by Google's libphonenumber (`phonenumbers`), in the form of E.164: ``+34912345678``."""

import re
from collections.abc import Sequence

_CANDIDATE = re.compile(r"(?<![\w/.,-])[+(]?[0-9][0-9 \u00a0().\-]{6,24}[0-9](?![\w/-]|[.,][0-9])")
MAX_CANDIDATES = 100
_FEWEST_DIGITS = 8


def find_phones(text: str, regions: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return the numbers and where they stand; without a country code those of the first of ``regions`` that has such.

    Not the library's own matcher: it tries every beginning of every run of digits, and takes a second for a page
    of figures. It is asked about what looks like a number only, and a bounded number of times.
    """
    known: dict[str, str | None] = {}
    found: list[tuple[int, int, str]] = []
    for match in _candidates(text):
        if match[0] not in known:  # it may be in each of a hundred signatures
            known[match[0]] = _number(match[0], regions)
        if number := known[match[0]]:
            found.append((match.start(), match.end(), number))
    return found


def _number(written: str, regions: Sequence[str]) -> str | None:
    import phonenumbers

    for region in (None,) if written.startswith("+") else regions:
        try:
            number = phonenumbers.parse(written, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return None


def _candidates(text: str) -> list["re.Match[str]"]:
    candidates: list[re.Match[str]] = []
    for match in _CANDIDATE.finditer(text):
        if sum(map(str.isdigit, match[0])) >= _FEWEST_DIGITS:
            candidates.append(match)
            if len(candidates) >= MAX_CANDIDATES:
                break
    return candidates
