"""Dates with a year: ``2026-11-24``, ``24/11/2026``, ``24 de noviembre de 2026``, ``November 24, 2026``."""

import re
from datetime import date

from econeura_daemon.worker.processing.words import fold

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "enero ene january jan gener janvier januar janeiro gennaio",
            "febrero feb february febrer fevrier februar fevereiro febbraio",
            "marzo mar march marc mars marz marco",
            "abril abr april apr avril aprile",
            "mayo may maig mai maio maggio",
            "junio jun june juny juin juni junho giugno",
            "julio jul july juliol juillet juli julho luglio",
            "agosto ago august aug agost aout",
            "septiembre setiembre sep sept september setembre septembre setembro settembre",
            "octubre oct october octobre oktober outubro ottobre okt",
            "noviembre nov november novembre novembro",
            "diciembre dic december dec desembre decembre dezember dezembro dicembre dez",
        ),
        1,
    )
    for name in names.split()
}
_DATE = re.compile(
    r"""(?ix)
    (?<![\w./-])
    (?: (?P<iso>[0-9]{4}-[0-9]{2}-[0-9]{2}) (?=T[0-9]{2}:|\b)
    |   (?P<first>[0-9]{1,2})(?P<separator>[/.-])(?P<second>[0-9]{1,2})(?P=separator)
        (?P<year>[0-9]{4}|[0-9]{2})\b(?![/.-][0-9])
    |   (?P<day>[0-9]{1,2})(?:st|nd|rd|th|º|\.)?,?[ ](?:de[ ]|of[ ])?
        (?P<month>[^\W\d_]{3,10})\.?,?[ ](?:de[ ]|del[ ])?(?P<year2>[0-9]{4})\b
    |   (?P<month2>[^\W\d_]{3,10})\.?[ ](?P<day2>[0-9]{1,2})(?:st|nd|rd|th)?,?[ ](?P<year3>[0-9]{4})\b
    )"""
)


def find_dates(text: str, *, is_day_first: bool) -> list[tuple[int, int, str]]:
    """Return ISO dates and where they stand. Days that no calendar has are none.

    ``is_day_first`` decides where both could be the month: 3/4/2026.
    """
    found = []
    for match in _DATE.finditer(text):
        try:
            day = _date(match, is_day_first=is_day_first)
        except ValueError:
            continue
        if day is not None:
            found.append((match.start(), match.end(), day.isoformat()))
    return found


def _date(match: "re.Match[str]", *, is_day_first: bool) -> date | None:
    if match["iso"]:
        return date.fromisoformat(match["iso"])
    if match["first"]:
        first, second, year = int(match["first"]), int(match["second"]), int(match["year"])
        if year < 100:
            if match["separator"] != "/":  # 1.2.26 is a version, 10-12-20 a number of something
                return None
            year += 2000
        if second > 12 or (not is_day_first and first <= 12):
            first, second = second, first
        return date(year, second, first)
    month = _MONTHS.get(fold(match["month"] or match["month2"]))
    if month is None:
        return None
    return date(int(match["year2"] or match["year3"]), month, int(match["day"] or match["day2"]))
