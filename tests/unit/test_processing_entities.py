"""Addresses, links, IBANs, amounts, dates and telephone numbers, as they are written, and what only looks like them."""

import time

import pytest

from econeura_daemon.worker.processing.entities import MAX_EACH, find_entities
from econeura_daemon.worker.processing.ibans import LENGTHS, is_iban


def found(text, *, is_day_first=True, regions=("ES",), links=()):
    return find_entities(text, is_day_first=is_day_first, regions=regions, links=links)


def money(amount, currency="EUR"):
    return {"amount": amount, "currency": currency}


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("1.234,56 €", [money("1234.56")]),
        ("$1,234.56", [money("1234.56", "USD")]),
        ("EUR 500", [money("500")]),
        ("500€", [money("500")]),
        ("1.234 €", [money("1234")]),
        ("1,234 €", [money("1234")]),
        ("12,5 euros", [money("12.50")]),
        ("1 234 567,80 €", [money("1234567.80")]),
        ("CHF 1'200.00", [money("1200", "CHF")]),
        ("3 millones de euros", [money("3000000")]),
        ("20 mil euros", [money("20000")]),
        ("$2.5 million", [money("2500000", "USD")]),
        ("5k €", [money("5000")]),
        ("US$ 30", [money("30", "USD")]),
        ("-20 €", [money("-20")]),
        ("entre 10 € y 20 €", [money("10"), money("20")]),
        ("10 €, 10,00 €", [money("10")]),
        ("try 2, pen 3, 4 cop", []),
        ("500 eurosport", []),
        ("€", []),
        ("12 5", []),
    ],
)
def test_amounts(text, amounts):
    assert found(f"Es: {text}.").get("amounts", []) == amounts


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("2026-11-24", ["2026-11-24"]),
        ("2026-11-24T10:00:00Z", ["2026-11-24"]),
        ("24/11/2026", ["2026-11-24"]),
        ("11/24/2026", ["2026-11-24"]),
        ("24.11.2026", ["2026-11-24"]),
        ("24-11-2026", ["2026-11-24"]),
        ("24/11/26", ["2026-11-24"]),
        ("3/4/2026", ["2026-04-03"]),
        ("24 de noviembre de 2026", ["2026-11-24"]),
        ("1º de Enero del 2027", ["2027-01-01"]),
        ("24 nov. 2026", ["2026-11-24"]),
        ("November 24, 2026", ["2026-11-24"]),
        ("Nov 24th, 2026", ["2026-11-24"]),
        ("24th of November 2026", ["2026-11-24"]),
        ("29 February 2024 y 29/02/2025", ["2024-02-29"]),
        ("31/11/2026", []),
        ("10.1.2.26", []),
        ("1.2.26", []),
        ("24 gatos 2026", []),
        ("2026-13-45", []),
    ],
)
def test_dates(text, dates):
    assert found(f"El {text}, a las 10").get("dates", []) == dates


def test_a_date_that_can_be_read_in_two_ways_is_read_as_its_language_does():
    assert found("3/4/2026", is_day_first=False)["dates"] == ["2026-03-04"]
    assert found("23/4/2026", is_day_first=False)["dates"] == ["2026-04-23"]


@pytest.mark.parametrize(
    ("text", "ibans"),
    [
        ("ES91 2100 0418 4502 0005 1332", ["ES9121000418450200051332"]),
        ("es9121000418450200051332", ["ES9121000418450200051332"]),
        ("ES91-2100-0418-4502-0005-1332 BIC CAIXESBB", ["ES9121000418450200051332"]),
        (
            "DE89370400440532013000, GB29 NWBK 6016 1331 9268 19",
            ["DE89370400440532013000", "GB29NWBK60161331926819"],
        ),
        ("ES91 2100 0418 4502 0005 1333", []),
        ("ES91 2100 0418 4502 0005", []),
        ("ES9121000418450200051332X", []),
        ("ZZ91 2100 0418 4502 0005 1332", []),
    ],
)
def test_only_ibans_whose_check_digits_fit(text, ibans):
    entities = found(f"IBAN: {text}.")
    assert entities.get("ibans", []) == ibans
    if ibans:
        assert "phones" not in entities


def test_any_wrong_digit_of_an_iban_is_seen():
    right = "ES9121000418450200051332"
    assert is_iban(right)
    assert len(right) == LENGTHS["ES"]
    for place in range(4, 24):
        for digit in set("0123456789") - {right[place]}:
            assert not is_iban(right[:place] + digit + right[place + 1 :])


@pytest.mark.parametrize(
    ("text", "regions", "phones"),
    [
        ("912 345 678", ["ES"], ["+34912345678"]),
        ("612-34-56-78", ["ES"], ["+34612345678"]),
        ("+44 20 7946 0958", ["ES"], ["+442079460958"]),
        ("0034 912 345 678", ["ES"], ["+34912345678"]),
        ("(212) 456-7890", ["ES", "US"], ["+12124567890"]),
        ("020 7946 0958", ["ES", "US", "GB"], ["+442079460958"]),
        ("912 345 678 / 912345678", ["ES"], ["+34912345678"]),
        ("123 456 789", ["ES"], []),
        ("2026-11-24 10", ["ES"], []),
        ("912 345 678 901 234", ["ES"], []),
        ("A612345678B", ["ES"], []),
        ("1.612.345.678,00 €", ["ES"], []),
    ],
)
def test_phones(text, regions, phones):
    assert found(f"Tel. {text}.", regions=regions).get("phones", []) == phones


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("escribe a Ana.Gomez+x@Example.com.", "emails", ["ana.gomez+x@example.com"]),
        ("<a@b.example>, 'c@d.example'", "emails", ["a@b.example", "c@d.example"]),
        ("josé@españa.example", "emails", ["josé@españa.example"]),
        ("a@b y @c", "emails", []),
        ("mira https://example.com/a(b)?c=d#e).", "urls", ["https://example.com/a(b)?c=d#e"]),
        ("(www.example.com)", "urls", ["www.example.com"]),
        ("http://", "urls", []),
        ("https://example.com/?mail=a@b.example", "emails", []),
    ],
)
def test_addresses_and_links(text, kind, values):
    assert found(text).get(kind, []) == values


def test_links_of_a_page_count_too_and_nothing_is_given_twice_or_without_end():
    entities = found(
        "https://a.example",
        links=["https://a.example", "https://b.example", "mailto:X@y.example?subject=z", "tel:1"],
    )
    assert entities == {"urls": ["https://a.example", "https://b.example"], "emails": ["x@y.example"]}
    many = found(" ".join(f"a{number}@b.example" for number in range(1000)))
    assert many["emails"] == [f"a{number}@b.example" for number in range(MAX_EACH)]


@pytest.mark.parametrize(
    "piece", ["912345678 ", "1", "1 ", "1.", "a@", "ES91 ", "24/11/", "€1", "(1) ", "+1", "http://a"]
)
def test_time_is_bounded_whatever_the_text(piece):
    started = time.process_time()
    found(piece * (200_000 // len(piece)), regions=("ES", "US", "GB"))
    assert time.process_time() - started < 2
