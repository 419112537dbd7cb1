"""The letter in which a mail is sent on: a new one, with the original attached byte for byte.

Not the original itself with Resent fields (RFC 5322 §3.6.6): servers that check who may send refuse other people's
addresses in ``From``, and an original with 8-bit text or overlong lines may not be sent to every server at all.
"""

import hashlib
import re
from contextlib import suppress
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from econeura_daemon.core.clock import Clock
from econeura_daemon.worker.mailstore.heads import HEAD_LIMIT, end_of_head
from econeura_daemon.worker.mailstore.message_ids import with_newlines

LOOP_MARK = "econeura-daemon"
"""What ``X-Loop`` says in letters of ours; one that comes back is not sent on again."""

_LOOP = re.compile(rb"\nx-loop:[ \t]*" + LOOP_MARK.encode() + rb"[ \t]*\n", re.IGNORECASE)
_SUBJECT = re.compile(rb"\nsubject:((?:[^\n]|\n[ \t])*)", re.IGNORECASE)
_LINE_END = re.compile(rb"\r?\n")
_UNFIT = re.compile(r"[\x00-\x1f\x7f]+")
_SIMPLE_ID = re.compile(r"[!-;=?-~]{1,250}@[!-;=?-~]{1,250}")


def is_ours(raw: bytes) -> bool:
    """Whether the mail is a letter of ours that came back."""
    return _LOOP.search(_head(raw)) is not None


def letter(raw: bytes, message_id: str, *, sender: str, to: str, clock: Clock) -> bytes:
    """Return the letter, with CRLF and in ASCII alone, so that every server takes it.

    Its Message-ID follows from the mail's and the address: whoever gets it twice can see that it is the same.
    """
    digest = hashlib.sha256(f"{message_id}\0{to}".encode(errors="surrogatepass")).hexdigest()
    written = EmailMessage(policy=SMTP)
    written["From"] = sender
    written["To"] = to
    written["Subject"] = f"Fwd: {_subject(raw)}"
    written["Date"] = format_datetime(clock.now())
    written["Message-ID"] = f"<{digest[:40]}@{sender.rpartition('@')[2]}>"
    if _SIMPLE_ID.fullmatch(message_id):
        written["References"] = f"<{message_id}>"
    written["Auto-Submitted"] = "auto-forwarded"
    written["X-Loop"] = LOOP_MARK
    written.set_content("The message is attached.\n")
    if _is_plain(raw):
        attached = EmailMessage(policy=SMTP)
        attached["Content-Type"] = "message/rfc822"
        attached["Content-Disposition"] = "attachment"
        attached.set_payload(raw.decode("ascii"))
        written.make_mixed()
        written.attach(attached)
    else:
        written.add_attachment(raw, maintype="application", subtype="octet-stream", filename="original.eml")
    return _LINE_END.sub(b"\r\n", written.as_bytes())


def _is_plain(raw: bytes) -> bool:
    """Whether it may be attached as a message, for which RFC 2046 §5.2.1 allows no encoding."""
    return (
        raw.isascii()
        and b"\0" not in raw
        and b"\r" not in raw.replace(b"\r\n", b"\n")
        and max(map(len, raw.split(b"\n"))) < 998
    )


def _subject(raw: bytes) -> str:
    found = _SUBJECT.search(_head(raw))
    if found is None:
        return "(no subject)"
    text = found[1].decode("utf-8", "replace")
    with suppress(HeaderParseError, LookupError, ValueError):
        text = str(make_header(decode_header(text)))
    text = text.encode("utf-8", "replace").decode()  # no lone surrogates
    return _UNFIT.sub(" ", text).strip()[:200]


def _head(raw: bytes) -> bytes:
    start = raw[:HEAD_LIMIT]
    end = end_of_head(start)
    return with_newlines(start if end < 0 else start[:end])
