"""A mail store to try things on: a Maildir of Spanish and English business mails, the same for the same seed.

They are dressed as real ones are: old charsets, quoted-printable and base64, HTML with and without a text beside
it, attachments, answers below quoted lines, signatures. Every name, number and address is made up; domains are
those that RFC 2606 reserves, phone numbers and IBANs are of valid form and nobody's.

    python -m benchmarks.demo.mails FOLDER [COUNT]
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import NamedTuple

BEGIN = datetime(2026, 11, 2, 7, 30, tzinfo=UTC)


class Letter(NamedTuple):
    """What is written; ``{…}`` are filled in."""

    language: str
    subject: str
    text: str


LETTERS = (
    Letter(
        "es",
        "Factura {number} pendiente de pago",
        "Estimados señores:\n\nLes recordamos que la factura {number}, por un importe de {amount}, venció el {date}. "
        "Les rogamos que hagan la transferencia a la cuenta {iban} a la mayor brevedad.\n\nSi ya la han "
        "hecho, no tengan en cuenta este mensaje.\n\nUn saludo,\n{person}\nAdministración, {phone}\n",
    ),
    Letter(
        "es",
        "URGENTE: el servicio no funciona desde esta mañana",
        "Buenos días:\n\nDesde las ocho no podemos entrar en la aplicación y tenemos a toda la oficina parada. Es la "
        "tercera vez este mes y esto es inaceptable. Necesitamos una solución inmediatamente; "
        "llámenme al {phone}.\n\n{person}\n",
    ),
    Letter(
        "es",
        "Reunión del proyecto el {date}",
        "Hola a todos:\n\n¿Os viene bien que nos reunamos el {date} a las 10:30 para revisar el presupuesto? Llevaré "
        "la propuesta actualizada ({amount}). Confirmadme, por favor, quién puede asistir.\n\nGracias,\n{person}\n",
    ),
    Letter(
        "es",
        "Solicitud de presupuesto",
        "Buenas tardes:\n\nEstamos interesados en sus servicios de mantenimiento para dos naves en Castellón. ¿Podrían "
        "enviarnos un presupuesto antes del {date}? Nuestro límite es de {amount}. Pueden escribirme a {address} o "
        "llamarme al {phone}.\n\nAtentamente,\n{person}\n",
    ),
    Letter(
        "es",
        "Gracias por la rapidez",
        "Hola:\n\nSolo quería daros las gracias: el pedido {number} llegó ayer y todo está perfecto. Estamos "
        "encantados con la atención de vuestro equipo. ¡Enhorabuena!\n\nUn abrazo,\n{person}\n",
    ),
    Letter(
        "es",
        "Candidatura: técnica de calidad",
        "Estimada señora:\n\nAdjunto mi currículum para el puesto de técnica de calidad publicado en su web. "
        "Tengo seis años de experiencia y disponibilidad a partir del {date}. Quedo a su disposición en "
        "el {phone}.\n\n{person}\n",
    ),
    Letter(
        "es",
        "Boletín de novedades de noviembre",
        "Descubre las novedades de este mes y aprovecha un 30 % de descuento en toda la tienda hasta el {date}. "
        "Oferta válida para compras superiores a {amount}.\n\nSi no quieres recibir más correos, date de baja aquí: "
        "https://tienda.example/baja\n",
    ),
    Letter(
        "en",
        "Invoice {number} is overdue",
        "Dear customer,\n\nOur records show that invoice {number} for {amount} was due on {date} and has not been "
        "paid. Please transfer the amount to {iban} within seven days.\n\nKind regards,\n{person}\nAccounts, {phone}\n",
    ),
    Letter(
        "en",
        "URGENT: production is down",
        "Hi,\n\nThe ordering system has been failing with errors since 06:40 and our warehouse has stopped. This is "
        "unacceptable, we are losing money every minute. Please call me immediately on {phone}.\n\n{person}\n",
    ),
    Letter(
        "en",
        "Meeting on {date}",
        "Hello everyone,\n\nCould we meet on {date} at 10:30 to go through the budget? I will bring the new proposal "
        "({amount}). Please let me know who can attend.\n\nBest,\n{person}\n",
    ),
    Letter(
        "en",
        "Request for a quote",
        "Good afternoon,\n\nWe would like a quotation for forty seats of your software, starting on {date}. Our "
        "budget is {amount} a year. You can reach me at {address} or {phone}.\n\nRegards,\n{person}\n",
    ),
    Letter(
        "en",
        "Thank you for order {number}",
        "Hello,\n\nI just wanted to say thank you. Order {number} arrived yesterday, everything is perfect and "
        "your team has been excellent. We are delighted!\n\nAll the best,\n{person}\n",
    ),
    Letter(
        "en",
        "How do I change my password?",
        "Hi support,\n\nI cannot find where to change the password of my account {number}. Could you help me, please? "
        "There is no hurry.\n\nThanks,\n{person}\n",
    ),
    Letter(
        "en",
        "This week: 30 % off everything",
        "Our biggest sale of the year ends on {date}. Buy now and save on orders over {amount}.\n\n"
        "You receive this newsletter because you subscribed. Unsubscribe: https://shop.example/unsubscribe\n",
    ),
)

_PEOPLE = {
    "es": ("Lucía Ibáñez", "Íñigo Peña", "Martín Muñoz", "Nuria Vidal", "Begoña Núñez", "Jordi Ferrer"),
    "en": ("Alice Turner", "Rajesh Patel", "Zoë O'Connor", "Mark Whitfield", "Grace Okafor", "Liam Byrne"),
}
_DOMAINS = {
    "es": ("ferreteria.example", "gestoria.example", "transportes.example"),
    "en": ("acme.example", "globex.example", "initech.example"),
}
_MONTHS = ("enero", "febrero", "marzo", "abril", "mayo", "junio",
           "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre")  # fmt: skip
_DRESSES = ("plain", "plain", "latin1", "windows1252", "alternative", "html", "attachment", "answer")


def write_maildir(folder: Path, count: int, *, seed: int = 7) -> list[str]:
    """Write a new Maildir with so many unread mails; return their Message-IDs, oldest first."""
    for name in ("tmp", "new", "cur"):
        (folder / name).mkdir(parents=True)
    ids = []
    for number, (message_id, raw) in enumerate(mails(count, seed=seed)):
        deliver(folder, f"{int(BEGIN.timestamp()) + number * 60}.M{number}P1.demo", raw)
        ids.append(message_id)
    return ids


def deliver(folder: Path, name: str, raw: bytes) -> None:
    """Put a mail into a Maildir as delivery agents do: written aside, then moved (https://cr.yp.to/proto/maildir.html)."""
    aside = folder / "tmp" / name
    aside.write_bytes(raw)
    aside.rename(folder / "new" / name)


def mails(count: int, *, seed: int = 7) -> Iterator[tuple[str, bytes]]:
    """Make so many mails: each one's Message-ID and its bytes."""
    rng = Random(seed)
    for number in range(count):
        letter = LETTERS[number % len(LETTERS)] if number < len(LETTERS) else rng.choice(LETTERS)
        dress = _DRESSES[number % len(_DRESSES)] if number < len(LETTERS) else rng.choice(_DRESSES)
        yield _mail(letter, dress, number, rng)


def _mail(letter: Letter, dress: str, number: int, rng: Random) -> tuple[str, bytes]:
    person = rng.choice(_PEOPLE[letter.language])
    domain = rng.choice(_DOMAINS[letter.language])
    user = person.split()[0].lower().translate(str.maketrans("íúéñë", "iuene"))
    written = BEGIN + timedelta(minutes=number)
    facts = {
        "person": person,
        "number": f"{'F' if letter.language == 'es' else 'INV'}-2026-{rng.randrange(1000, 10_000)}",
        "amount": _amount(letter.language, rng),
        "date": _date(letter.language, rng),
        "iban": _iban(letter.language, rng),
        "phone": _phone(letter.language, rng),
        "address": f"{user}@{domain}",
    }
    message_id = f"<{number:05d}.{rng.getrandbits(48):012x}@{domain}>"
    text = letter.text.format(**facts)
    message = EmailMessage()
    message["From"] = f"{person} <{facts['address']}>"
    message["To"] = "buzon@empresa.example" if letter.language == "es" else "inbox@company.example"
    message["Subject"] = letter.subject.format(**facts)
    message["Date"] = format_datetime(written)
    message["Message-ID"] = message_id
    _dress(message, dress, text, letter.language)
    if message.is_multipart():
        message.set_boundary(f"=_{number:05d}_{rng.getrandbits(48):012x}")
    return message_id, bytes(message)


def _dress(message: EmailMessage, dress: str, text: str, language: str) -> None:
    match dress:
        case "latin1":
            message.set_content(text.replace("€", "euros"), charset="iso-8859-1", cte="quoted-printable")
        case "windows1252":
            message.set_content(text.replace("'", "\u2019"), charset="windows-1252", cte="base64")
        case "alternative":
            message.set_content(text)
            message.add_alternative(_html(text), subtype="html")
        case "html":
            message.set_content(_html(text), subtype="html", cte="quoted-printable")
        case "attachment":
            message.set_content(text)
            message.add_attachment(
                b"%PDF-1.4\n% not a real one\n" + b"\0" * 2000,
                maintype="application",
                subtype="pdf",
                filename="presupuesto nº 4.pdf" if language == "es" else "quote.pdf",
            )
        case "answer":
            wrote = "El lunes escribió Soporte:" if language == "es" else "On Monday Support wrote:"
            message.set_content(
                f"{text}\n-- \n{message['From']}\n\n{wrote}\n> {text[:60].splitlines()[0]}\n> …\n"
            )
        case _:
            message.set_content(text, cte="8bit")


def _html(text: str) -> str:
    paragraphs = "".join(
        f"<p style='margin:0 0 1em'>{part.replace('&', '&amp;').replace(chr(10), '<br>')}</p>"
        for part in text.strip().split("\n\n")
    )
    return (
        "<html><head><style>p { font-family: sans-serif }</style></head>"
        f"<body>{paragraphs}<img src='https://t.example/p.gif' width=1 height=1></body></html>"
    )


def _amount(language: str, rng: Random) -> str:
    units, cents = rng.randrange(50, 20_000), rng.randrange(100)
    if language == "es":
        return f"{units:,}".replace(",", ".") + f",{cents:02d} €"
    return f"{rng.choice('$£')}{units:,}.{cents:02d}"


def _date(language: str, rng: Random) -> str:
    day, month = rng.randrange(1, 29), rng.randrange(12)
    if language == "es":
        return f"{day} de {_MONTHS[month]} de 2026"
    return datetime(2026, month + 1, day, tzinfo=UTC).strftime("%d %B %Y")


def _phone(language: str, rng: Random) -> str:
    if language == "es":
        return f"+34 96{rng.randrange(1, 10)} {rng.randrange(100, 1000)} {rng.randrange(100, 1000)}"
    return f"+44 20 7946 0{rng.randrange(100, 1000)}"  # a range that Ofcom keeps for films


def _iban(language: str, rng: Random) -> str:
    """Make one of right length and check digits (ISO 13616)."""
    if language == "es":
        bank, account = "20809999", f"{rng.randrange(10**10):010d}"
        country, bban = "ES", f"{bank}{_control('00' + bank)}{_control(account)}{account}"
    else:
        country, bban = "GB", f"WEST12345{rng.randrange(10**9):09d}"
    digits = "".join(str(int(letter, 36)) for letter in f"{bban}{country}00")
    iban = f"{country}{98 - int(digits) % 97:02d}{bban}"
    return " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))


def _control(ten: str) -> int:
    weights = (1, 2, 4, 8, 5, 10, 9, 7, 3, 6)
    left = 11 - sum(int(digit) * weight for digit, weight in zip(ten, weights, strict=True)) % 11
    return {11: 0, 10: 1}.get(left, left)


if __name__ == "__main__":
    target, *counts = sys.argv[1:] or ["--help"]
    if target.startswith("-"):
        sys.exit("usage: python -m benchmarks.demo.mails FOLDER [COUNT]")
    print(f"{len(write_maildir(Path(target), int(*counts or [100])))} mails in {target}")
