"""What of a mail is its text, and what is attached: the choice among its parts (RFC 2046, 5.1)."""

import re

import attrs

from econeura_daemon.worker.processing.charsets import decode
from econeura_daemon.worker.processing.defects import Defects
from econeura_daemon.worker.processing.head import Head, decode_words
from econeura_daemon.worker.processing.html_text import html_to_text
from econeura_daemon.worker.processing.mime import Part, parse_parts
from econeura_daemon.worker.processing.transfer import decode_transfer, without_uu_files

TEXT_LIMIT = 256 * 1024
"""Characters of text that are read; nobody writes more."""
ENCODED_LIMIT = 2 * 1024 * 1024
"""Bytes of one part that are decoded: a page of HTML is much longer than its text."""
MAX_ATTACHMENTS = 100
_OPAQUE = {
    "application/pkcs7-mime": "the mail is encrypted or signed as a whole (S/MIME); its text cannot be read",
    "application/x-pkcs7-mime": "the mail is encrypted or signed as a whole (S/MIME); its text cannot be read",
    "multipart/encrypted": "the mail is encrypted; its text cannot be read",
}
_TNEF = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_HTML_HINT = re.compile(r"\s{0,200}(?:<!doctype html|<html|<body|<div|<table|<head)", re.IGNORECASE)
_EMPTY_PLAIN = re.compile(r"(?i)\b(html|navegador|browser|mail client|cliente de correo)\b")
_CONTROLS = dict.fromkeys((*range(9), 11, *range(14, 32), 127, 173, 8203, 8204, 8205, 8288, 65279, 847))
"""Characters that nobody sees, which newsletters put in by the hundred."""


@attrs.frozen
class Attachment:
    """A file, a mail or a calendar entry that came along: its type and its name (a mail's subject; '' if none)."""

    kind: str
    name: str


@attrs.frozen
class Readable:
    """A mail as a reader has it before them. ``report`` is the text of a delivery status (RFC 3464), '' if none."""

    head: Head
    root: Part
    text: str
    links: tuple[str, ...]
    attachments: tuple[Attachment, ...]
    report: str


def read_mail(raw: bytes, defects: Defects) -> Readable:
    """Read a mail's text. ``raw`` has line feeds; nothing that is in it makes this fail."""
    root = parse_parts(raw, defects)
    reading = _Reading(raw, defects)
    texts = reading.texts(root)
    text = "\n".join(texts).translate(_CONTROLS)
    if len(text) > TEXT_LIMIT:
        defects.add(f"the text is longer than {TEXT_LIMIT} characters; its end was not read")
        text = text[:TEXT_LIMIT]
    return Readable(
        root.head, root, text, tuple(dict.fromkeys(reading.links)), tuple(reading.attachments), reading.report
    )


class _Reading:
    def __init__(self, raw: bytes, defects: Defects) -> None:
        self.raw = raw
        self.defects = defects
        self.links: list[str] = []
        self.attachments: list[Attachment] = []
        self.report = ""
        self._left = 4 * ENCODED_LIMIT

    def texts(self, part: Part) -> list[str]:
        """Return the texts of a part and those in it. It goes as deep as `parse_parts` opens parts."""
        if part.kind in _OPAQUE:
            self.defects.add(_OPAQUE[part.kind])
            self._attach(part)
            return []
        if not part.parts:
            return self._leaf(part)
        match part.kind:
            case "multipart/alternative":
                return self._alternative(part)
            case "multipart/related":
                return self._related(part)
            case "multipart/signed":
                return self.texts(part.parts[0])
        return [text for inner in part.parts for text in self.texts(inner)]

    def _alternative(self, part: Part) -> list[str]:
        """Take the plain text, unless it says nothing or only that one should look at the other."""
        readings = [(self._is_html(inner), self.texts(inner)) for inner in part.parts]
        plain = next((texts for is_html, texts in readings if not is_html and _length(texts)), [])
        html = next((texts for is_html, texts in reversed(readings) if is_html and _length(texts)), [])
        if not html:
            return plain
        length = _length(plain)
        is_notice = length < 400 and _length(html) > 2 * length and _EMPTY_PLAIN.search(" ".join(plain))
        return html if length * 10 < _length(html) or is_notice else plain

    def _is_html(self, part: Part) -> bool:
        return part.kind in {"text/html", "application/xhtml+xml"} or any(
            self._is_html(inner) for inner in part.parts
        )

    def _related(self, part: Part) -> list[str]:
        """Take the root, which ``start`` names, else the first (RFC 2387); the rest is what its page shows."""
        start = part.content_type.parameters.get("start", "")
        named = [
            inner for inner in part.parts if start and inner.head.get("content-id").strip() == start.strip()
        ]
        root = named[0] if named else part.parts[0]
        for inner in part.parts:
            if inner is not root:
                self._attach(inner)
        return self.texts(root)

    def _leaf(self, part: Part) -> list[str]:
        kind = part.kind
        if kind.startswith("multipart/"):  # one that could not be opened
            return self._text(part, "text/plain") if part.depth == 0 else []
        if kind in {"message/delivery-status", "message/disposition-notification"}:
            self.report += self._decoded(part)
            return []
        if part.disposition == "attachment" or not kind.startswith("text/"):
            is_text_of_all = (
                part.depth == 0 and part.disposition != "attachment" and kind == "application/xhtml+xml"
            )
            if not is_text_of_all:
                self._attach(part)
                return []
        if kind in {
            "text/calendar",
            "text/vcard",
            "text/x-vcard",
            "text/directory",
            "text/css",
            "text/csv",
            "text/rfc822-headers",
        }:
            self._attach(part)
            return []
        if part.file_name and part.depth and kind not in {"text/plain", "text/html"}:
            self._attach(part)
            return []
        return self._text(part, kind)

    def _attach(self, part: Part) -> None:
        name = part.file_name
        if part.kind == "message/rfc822" and not name:
            name = self._subject_inside(part)
        if part.kind in _TNEF:
            self.defects.add("an attachment is in Microsoft's TNEF (winmail.dat); what is in it was not read")
        if len(self.attachments) < MAX_ATTACHMENTS:
            self.attachments.append(Attachment(part.kind, name))
        for inner in part.parts:
            self._attach(inner)

    def _subject_inside(self, part: Part) -> str:
        found = re.search(
            rb"(?im)^subject:[ \t]*([^\r\n]{0,500})", self.raw[part.start : min(part.end, part.start + 65536)]
        )
        return " ".join(decode_words(decode(found[1], None)[0]).split())[:255] if found else ""

    def _decoded(self, part: Part) -> str:
        end = min(part.end, part.start + ENCODED_LIMIT, part.start + max(self._left, 0))
        if end < part.end:
            self.defects.add("a text is too long; its end was not read")
        self._left -= end - part.start
        raw, defect = decode_transfer(self.raw[part.start : end], part.encoding)
        self.defects.add(defect)
        if part.kind == "text/plain":
            raw, names = without_uu_files(raw)
            for name in names[:MAX_ATTACHMENTS]:
                self.attachments.append(Attachment("application/octet-stream", decode(name, None)[0]))
        text, defect = decode(raw, part.content_type.parameters.get("charset"))
        self.defects.add(defect)
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def _text(self, part: Part, kind: str) -> list[str]:
        text = self._decoded(part)
        if kind in {"text/html", "application/xhtml+xml"} or (
            kind == "text/plain" and _HTML_HINT.match(text)
        ):
            text, links = html_to_text(text)
            self.links += links
        elif kind in {"text/enriched", "text/richtext"}:
            text = re.sub(r"</?[a-zA-Z]{1,60}>", "", text.replace("<<", "<"))
        elif part.content_type.parameters.get("format", "").lower() == "flowed":
            text = _unflowed(text, is_delsp=part.content_type.parameters.get("delsp", "").lower() == "yes")
        return [text]


def _length(texts: list[str]) -> int:
    return sum(len(text.split()) for text in texts)


def _unflowed(text: str, *, is_delsp: bool) -> str:
    """Join the lines that end with a blank to the next of the same depth of quoting (RFC 3676)."""
    out: list[list[str]] = []
    flowing: str | None = None
    for line in text.split("\n"):
        content = line.lstrip(">")
        depth = ">" * (len(line) - len(content))
        content = content.removeprefix(" ")
        is_signature = content == "-- "
        if flowing != depth or is_signature:
            out.append([f"{depth} " if depth else ""])
        flows = content.endswith(" ") and not is_signature
        out[-1].append(content[:-1] if flows and is_delsp else content)
        flowing = depth if flows else None
    return "\n".join(map("".join, out))
