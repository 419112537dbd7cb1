"""The fields of a head: unfolded and bounded, with encoded words (RFC 2047) and parameters (RFC 2231) as they come."""

import binascii
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

import attrs

from econeura_daemon.worker.processing.charsets import decode
from econeura_daemon.worker.processing.defects import Defects
from econeura_daemon.worker.processing.transfer import decode_transfer

HEAD_LIMIT = 1024 * 1024
"""Bytes of one head that are looked at."""
FIELD_LIMIT = 16 * 1024
"""Bytes of one field's value that are kept."""
MAX_FIELDS = 1000
_FIELD_TOO_LONG = "a header field is too long; its end was not read"
_FIELD = re.compile(rb"([!-9;-~]{1,200})[ \t]*:")
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,80})\?([bBqQ])\?(.{0,1000}?)\?=", re.DOTALL)
_PARAMETER = re.compile(r""";\s*(?:([^\s=;]{1,200})\s*=\s*("(?:[^"\\]|\\.)*"?|[^;]*))?""", re.DOTALL)
_SECTION = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*)?")


@attrs.frozen
class Head:
    """The fields by name in lower case, in their order; values are unfolded and not yet decoded further."""

    fields: Mapping[str, tuple[str, ...]]
    body: int
    """Where the body begins."""

    def get(self, name: str) -> str:
        """Return the first field of this name, '' if there is none."""
        values = self.fields.get(name)
        return values[0] if values else ""

    def text(self, name: str) -> str:
        """Return the first field of this name for people: encoded words decoded, white space made one blank."""
        return " ".join(decode_words(self.get(name)).split())


@attrs.frozen
class Content:
    """A Content-Type or Content-Disposition: its value in lower case, and its parameters by name in lower case."""

    value: str
    parameters: Mapping[str, str]


def read_head(raw: bytes, start: int, end: int, defects: Defects) -> Head:
    """Read the fields from ``start``; what is neither field nor continuation begins the body. Never beyond ``end``."""
    reading = _Reading(defects)
    at = start
    while at < end:
        line_end = raw.find(b"\n", at, end)
        after = end if line_end < 0 else line_end + 1
        line = raw[at : min(after, at + FIELD_LIMIT)].rstrip(b"\r\n")
        if not line or (not line.strip() and reading.current is None):
            return reading.head(after)
        if after - at > FIELD_LIMIT:
            defects.add(_FIELD_TOO_LONG)
        if line[0] in b" \t":
            reading.continuation(line)
        elif found := _FIELD.match(line):
            reading.field(found[1], line[found.end() :], is_within=at - start < HEAD_LIMIT)
        elif line.startswith((b"From ", b">From ")):
            reading.current = None  # of an mbox
        else:
            defects.add("the head ends without a blank line")
            return reading.head(at)
        at = after
    return reading.head(end)


class _Reading:
    def __init__(self, defects: Defects) -> None:
        self.current: list[bytes] | None = None
        self._defects = defects
        self._fields: dict[str, list[list[bytes]]] = {}
        self._count = self._size = 0

    def field(self, name: bytes, value: bytes, *, is_within: bool) -> None:
        self._count += 1
        self._size = len(value)
        self.current = [value]
        if is_within and self._count <= MAX_FIELDS:
            self._fields.setdefault(name.decode("ascii").lower(), []).append(self.current)
        else:
            self._defects.add("the head is too long; its end was not read")

    def continuation(self, line: bytes) -> None:
        self._size += len(line)
        if self.current is None:
            self._defects.add("the head begins with a continuation")
        elif self._size <= FIELD_LIMIT:
            self.current.append(line)
        else:
            self._defects.add(_FIELD_TOO_LONG)

    def head(self, body: int) -> Head:
        fields = {name: tuple(map(_unfolded, values)) for name, values in self._fields.items()}
        return Head(fields, body)


def _unfolded(lines: Iterable[bytes]) -> str:
    """Join the lines. Bytes that are not ASCII are taken for what they most likely are (RFC 6532, or windows-1252)."""
    text, _ = decode(b"".join(lines).strip(), None)
    return text.replace("\0", "")


def decode_words(text: str) -> str:
    """Decode the encoded words in a field's value (RFC 2047), broken ones too; what is not one stays.

    Words beside each other are joined as bytes first: senders cut in the middle of a character, which 5 forbids.
    """
    if "=?" not in text:
        return text
    out: list[str] = []
    pending = b""
    charset = ""
    at = 0
    for match in _ENCODED_WORD.finditer(text):
        between = text[at : match.start()]
        label = match[1].partition("*")[0].lower()  # a language may follow (RFC 2231, 5)
        raw = _word(match[2].lower(), match[3])
        if pending and (between.strip() or label != charset):
            out.append(decode(pending, charset)[0])
            pending = b""
        if between.strip() or not at:
            out.append(between)
        pending += raw
        charset = label
        at = match.end()
    out.extend((decode(pending, charset)[0], text[at:]))
    return "".join(out)


def _word(encoding: str, text: str) -> bytes:
    raw = text.encode("utf-8")
    if encoding == "q":
        return binascii.a2b_qp(raw.replace(b" ", b"_"), header=True)
    return decode_transfer(raw, "base64")[0]


def parse_content(value: str) -> Content:
    """Read ``text/plain; charset="utf-8"; name*0*=utf-8''a%20; name*1=b`` (RFC 2045, 2231), leniently."""
    kind, _, _ = value.partition(";")
    plain: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    rest = value[len(kind) :]
    for match in _PARAMETER.finditer(rest):
        if match[1] is None:
            continue
        section = _SECTION.fullmatch(match[1].lower())
        text = _unquoted(match[2])
        if section is None or (section[2] is None and section[3] is None):
            plain.setdefault(match[1].lower(), decode_words(text))
        else:
            order = int(section[2] or 0)
            sections.setdefault(section[1], {}).setdefault(order, (text, section[3] is not None))
    for name, parts in sections.items():
        plain[name] = _joined([parts[order] for order in sorted(parts)])
    return Content("".join(kind.split()).lower(), plain)


def _unquoted(text: str) -> str:
    text = text.strip()
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:].removesuffix('"'), flags=re.DOTALL)
    return text


def _joined(parts: list[tuple[str, bool]]) -> str:
    """Join the sections of a parameter; the first of the encoded ones says the charset."""
    charset = None
    raw = b""
    for number, (text, is_encoded) in enumerate(parts):
        value = text
        if is_encoded and number == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        raw += unquote_to_bytes(value) if is_encoded else value.encode()
    return decode(raw, charset or "utf-8")[0]
