"""From the bytes of a mail to its result. Pure but for the time it takes, which it measures."""

import re
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

from econeura_daemon.worker.processing.defects import Defects
from econeura_daemon.worker.processing.entities import find_entities
from econeura_daemon.worker.processing.judging import Fields, judge
from econeura_daemon.worker.processing.language import language_of
from econeura_daemon.worker.processing.model import Processed, UnprocessableError
from econeura_daemon.worker.processing.quoting import Written, set_apart
from econeura_daemon.worker.processing.readable import Readable, read_mail
from econeura_daemon.worker.processing.rules import Rules

SIZE_LIMIT = 50 * 1024 * 1024
"""Bytes of a mail; what a mail store reads is no more."""
JUDGED_LIMIT = 32 * 1024
"""Characters of what the sender wrote by which a mail is judged."""
_FROM_LINE = re.compile(rb"\A(?:\xef\xbb\xbf)?(?:[ \t]*\r?\n){0,20}")
_DATE_LIMIT = 100


def process(raw: bytes, rules: Rules) -> Processed:
    """Read a mail and judge it.

    Raises `UnprocessableError` for what is no mail: nothing at all, no field of a head, or too large. Anything else,
    however broken, has a result that names its defects.
    """
    started = time.perf_counter()
    if len(raw) > SIZE_LIMIT:
        raise UnprocessableError(f"it has {len(raw)} bytes, more than {SIZE_LIMIT}")
    raw = _with_line_feeds(raw)
    if not raw:
        raise UnprocessableError("it is empty")
    defects = Defects()
    mail = read_mail(raw, defects)
    if not mail.head.fields:
        raise UnprocessableError("it does not begin with header fields, so it is no mail")
    written = set_apart(mail.text)
    own = (written.own or written.quoted)[:JUDGED_LIMIT]
    subject = mail.head.text("subject")
    language = language_of(f"{subject}\n{own}", rules.file.languages, mail.head.get("content-language"))
    judgement = judge(Fields(_texts(mail, subject, own), mail.head.text), rules)
    entities = find_entities(
        _mentioning(subject, written, own),
        links=mail.links if written.own else (),
        is_day_first=_is_day_first(language, mail.head.get("date")),
        regions=_regions(language, rules),
    )
    return Processed(
        action=judgement.action,
        confidence=judgement.confidence,
        category=judgement.category,
        sentiment=judgement.sentiment,
        urgency=judgement.urgency,
        language=language,
        entities=entities,
        forward_to=judgement.forward_to,
        defects=defects.listed(),
        milliseconds=round((time.perf_counter() - started) * 1000, 2),
    )


def _with_line_feeds(raw: bytes) -> bytes:
    """Return the mail without what may stand before it; carriage returns alone (of old Macs) become line feeds."""
    start = _FROM_LINE.match(raw)
    raw = raw[start.end() :] if start else raw
    return raw if b"\n" in raw else raw.replace(b"\r", b"\n")


def _texts(mail: Readable, subject: str, own: str) -> dict[str, str]:
    return {
        "subject": subject,
        "body": own,
        "from": mail.head.text("from"),
        "to": f"{mail.head.text('to')}, {mail.head.text('cc')}",
        "attachments": "\n\n".join(f"{file.kind} {file.name}" for file in mail.attachments),
    }


def _mentioning(subject: str, written: Written, own: str) -> str:
    return f"{subject}\n\n{own}\n\n{written.signature}"


def _regions(language: str, rules: Rules) -> Sequence[str]:
    regions = rules.file.phones.regions
    return (*regions.get("default", ()), *regions.get(language, ()))


def _is_day_first(language: str, date: str) -> bool:
    """Whether 3/4/2026 is in April: not for those who write English west of Greenwich, by their clock's offset."""
    if language != "en":
        return True
    try:
        offset = parsedate_to_datetime(date[:_DATE_LIMIT]).utcoffset()
    except (ValueError, TypeError, OverflowError, IndexError):
        return False
    return offset is not None and offset.total_seconds() >= 0 and not date.rstrip().endswith("-0000")
