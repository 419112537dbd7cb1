"""Amounts of money with their currency: ``1.234,56 €``, ``$1,234.56``, ``EUR 500``, ``3 millones de euros``."""

import re
from collections.abc import Iterable
from decimal import Decimal

_CODES = frozenset(
    {
        *(
            "EUR",
            "USD",
            "GBP",
            "JPY",
            "CHF",
            "CNY",
            "BRL",
            "MXN",
            "ARS",
            "CLP",
            "COP",
            "PEN",
            "UYU",
            "CAD",
            "AUD",
            "SEK",
        ),
        *("NOK", "DKK", "PLN", "INR", "TRY", "RUB"),
    }
)
"""In capitals only: "pen" and "try" are words."""
_NAMES = {
    name: code
    for code, names in (
        ("EUR", "€ eur euro euros"),
        ("USD", "$ us$ usd dólar dolar dólares dolares dollar dollars"),
        ("GBP", "£ gbp pounds libras"),
        ("JPY", "¥ yen yenes"),
        ("BRL", "r$"),
        ("MXN", "mx$"),
        ("CAD", "ca$"),
        ("AUD", "a$"),
        ("PEN", "s/"),
        ("INR", "₹"),
        ("TRY", "₺"),
        ("RUB", "₽"),
        ("PLN", "zł"),
    )
    for name in names.split()
}
_SCALES = {
    name: 10**power
    for power, names in ((3, "mil k thousand"), (6, "millón millon millones million m mio"), (9, "billion"))
    for name in names.split()
}


def _either(names: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, names), key=len, reverse=True))


_SIGN = f"{_either(_CODES)}|(?i:{_either(_NAMES)})"
_SCALE = f"(?i:{_either(_SCALES)})"
_NUMBER = (
    r"-?[0-9]{1,3}(?:[.,'\u2019 \u00a0\u202f][0-9]{3}){1,5}(?:[.,][0-9]{1,2})?(?![0-9])"
    r"|-?[0-9]{1,12}(?:[.,][0-9]{1,3})?(?![0-9])"
)
_AMOUNT = re.compile(
    rf"""(?x)
    (?<![\w.,/-])
    (?: (?P<sign>{_SIGN}) [ \u00a0]{{0,2}} (?P<number>{_NUMBER}) (?: [ ]?(?P<scale>{_SCALE})\b )? (?![.,]?\d)
    |   (?P<number2>{_NUMBER}) [ \u00a0\u202f]{{0,2}} (?: (?P<scale2>{_SCALE}) (?:[ ]de)? [ ]{{0,2}} )?
        (?P<sign2>{_SIGN}) (?!\w)
    )"""
)
_ANY_SIGN = re.compile(_SIGN)
_LARGEST = 10**15


def find_amounts(text: str) -> list[tuple[int, int, dict[str, str]]]:
    """Return ``{"amount": "1234.56", "currency": "EUR"}`` and where each stands.

    Two kinds of separators: the last is that of the decimals. One kind: that of thousands where three digits are behind
    it, in any language, since money has two decimals or none.
    """
    found: list[tuple[int, int, dict[str, str]]] = []
    if _ANY_SIGN.search(text) is None:  # most mails: looking for the whole takes twenty times as long
        return found
    for match in _AMOUNT.finditer(text):
        sign = match["sign"] or match["sign2"]
        currency = _NAMES.get(sign.lower(), sign)
        scale = _SCALES.get((match["scale"] or match["scale2"] or "").lower(), 1)
        value = _number(match["number"] or match["number2"]) * scale
        if abs(value) < _LARGEST:
            found.append((match.start(), match.end(), {"amount": _written(value), "currency": currency}))
    return found


def _number(text: str) -> Decimal:
    compact = re.sub(r"['\u2019\s]", "", text)
    last = max(compact.rfind("."), compact.rfind(","))
    if last < 0:
        return Decimal(compact)
    separators = {character for character in compact if character in ".,"}
    decimals = compact[last + 1 :]
    is_decimal = len(separators) == 2 or (len(decimals) != 3 and compact.count(compact[last]) == 1)
    whole = re.sub("[.,]", "", compact[:last])
    return Decimal(f"{whole}.{decimals}" if is_decimal else whole + decimals)


def _written(value: Decimal) -> str:
    """Return it with two decimals, or none where it has none."""
    return f"{value:.2f}" if value != value.to_integral_value() else str(int(value))
