"""Message-IDs as the index has them: one spelling for whatever people and programs write.

RFC 5322 §3.6.4 says ``<left@right>``; mails really have none, several, folded ones, encoded words, spaces, control
characters and 10 KB of them.
"""

import hashlib
import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header

LONGEST = 998
"""Characters of an id that is kept as it is: no line of a mail may be longer (RFC 5322 §2.1.1)."""

_FIELD = re.compile(rb"\nmessage-id[ \t]*:((?:[^\n]|\n[ \t])*)", re.IGNORECASE)
_NESTED = 4
"""Encoded words in encoded words that are gone into."""
_NOT_IN_AN_ID = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ufeff]+")
_ENCODED_WORD = re.compile(r"=\?[^?\s]+\?[bqBQ]\?[^?]*\?=")
_BRACKETED = re.compile(r"<([^<>]*)>")
_OF_A_MAILBOX = re.compile(
    rb"\n(?:status|x-status|x-keywords|x-uid|content-length):(?:[^\n]|\n[ \t])*", re.IGNORECASE
)


def normalised(text: str) -> str:
    """Return the one spelling of an id, without brackets; empty if there is none in ``text``.

    The first id in brackets counts, else the whole text. What cannot stand in an id is left out, so that folding
    and spaces make no difference; upper and lower case do. One longer than `LONGEST` becomes ``sha256:…@long-id``.
    """
    found = _once(text)
    for _ in range(_NESTED if "=?" in found else 0):  # what is shown must be found again
        found = _once(found)
    return found


def _once(text: str) -> str:
    if "=?" in text and _ENCODED_WORD.search(text):
        text = _decoded(text)
    for bracketed in _BRACKETED.finditer(text):
        if found := _bare(bracketed[1]):
            return found
    return _bare(text.replace("<", "").replace(">", ""))


def id_in(head: bytes) -> str:
    """Return the id that the header block has, empty if it has none; of several fields the first with an id counts."""
    lines = with_newlines(head)
    lower = lines.lower()
    at = lower.find(b"\nmessage-id")  # ten times as fast as a pattern that looks at every line
    while at >= 0:
        field = _FIELD.match(lines, at)
        if field is not None and (found := normalised(_text_of(field[1]))):
            return found
        at = lower.find(b"\nmessage-id", at + 1)
    return ""


def derived_id(head: bytes, body: bytes) -> str:
    """Return the id of a mail that has none: the same wherever the mail lies, and whoever has read it.

    ``body`` is its beginning. Line ends, and the fields in which programs note in an mbox what they did, do not count.
    """
    digest = hashlib.sha256(_OF_A_MAILBOX.sub(b"", with_newlines(head)).strip(b"\n"))
    digest.update(b"\n\n")
    digest.update(with_newlines(body).strip(b"\n"))
    return f"sha256:{digest.hexdigest()}@eml"


def content_digest(raw: bytes) -> str:
    """Return the SHA-256 of a whole mail, in hexadecimal, for which the same holds as for `derived_id`."""
    return hashlib.sha256(_OF_A_MAILBOX.sub(b"", with_newlines(raw)).strip(b"\n")).hexdigest()


def with_newlines(text: bytes) -> bytes:
    """Return the text after a newline, with every line end a newline."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return b"\n" + text


def _text_of(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _decoded(text: str) -> str:
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):  # a charset that nobody knows, base64 that is none
        return text


def _bare(text: str) -> str:
    found = _NOT_IN_AN_ID.sub("", text)
    if len(found) <= LONGEST:
        return found
    return f"sha256:{hashlib.sha256(found.encode(errors='surrogatepass')).hexdigest()}@long-id"
