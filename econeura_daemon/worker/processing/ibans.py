"""IBANs (ISO 13616) with the right length for their country and the right check digits; others are none."""

import re

_BEGIN = re.compile(r"(?i)(?<![a-z0-9])[a-z]{2}[0-9]{2}(?=[ \u00a0.-]?[a-z0-9])")
_SEPARATORS = " \u00a0.-"
_REGISTRY = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 "
    "RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
)
LENGTHS = {entry[:2]: int(entry[2:]) for entry in _REGISTRY.split()}
"""Characters of an IBAN by country (SWIFT's IBAN registry)."""


def find_ibans(text: str) -> list[tuple[int, int, str]]:
    """Return the IBANs, without blanks, and where they stand."""
    found = []
    end = 0
    for match in _BEGIN.finditer(text):
        length = LENGTHS.get(match[0][:2].upper())
        if length is None or match.start() < end:
            continue
        taken = _take(text, match.start(), length)
        if taken is not None and is_iban(taken[0]):
            end = taken[1]
            found.append((match.start(), end, taken[0]))
    return found


def is_iban(compact: str) -> bool:
    """Whether the check digits fit (ISO 7064, MOD 97-10)."""
    digits = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return int(digits) % 97 == 1


def _take(text: str, start: int, length: int) -> tuple[str, int] | None:
    """Collect ``length`` letters and digits, single separators between them; None if there are not as many."""
    characters: list[str] = []
    at = start
    while at < len(text) and len(characters) < length:
        character = text[at]
        if character.isascii() and character.isalnum():
            characters.append(character.upper())
        elif character not in _SEPARATORS or text[at - 1] in _SEPARATORS:
            return None
        at += 1
    goes_on = at < len(text) and text[at].isascii() and text[at].isalnum()
    return None if len(characters) < length or goes_on else ("".join(characters), at)
