"""Content-Transfer-Encoding (RFC 2045), taken as it comes: garbage, missing padding, half an escape."""

import binascii
import re

_NOT_BASE64 = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
)
_SPACE = b" \t\r\n"
_SOFT_BREAK = re.compile(rb"=[ \t]+(?=\r?\n)")
_BAD_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n|\Z)")
_UU_BEGIN = re.compile(rb"^begin [0-7]{3,4} ([^\r\n]{1,255})\r?\n", re.MULTILINE)
_UU_END = re.compile(rb"^end[ \t]*\r?$", re.MULTILINE)
_UU_TEXT = re.compile(
    rb"(?m)^begin [0-7]{3,4} ([^\r\n]{1,255})\r?\n(?:[!-`][ -`]{0,90}\r?\n){1,400000}(?:[` ]?\r?\n)?end[ \t]*\r?$"
)
_IDENTITY = frozenset({"", "7bit", "8bit", "binary"})


def decode_transfer(raw: bytes, encoding: str) -> tuple[bytes, str | None]:
    """Return the bytes that ``encoding`` (in lower case) stands for, and what was wrong with them (or None)."""
    match encoding:
        case _ if encoding in _IDENTITY:
            return raw, None
        case "quoted-printable":
            return _quoted_printable(raw)
        case "base64":
            return _base64(raw)
        case "x-uuencode" | "uuencode" | "x-uue" | "uue":
            return _uu(raw)
        case _:
            return raw, f"transfer encoding {encoding[:40]!a} is not known, read as it is"


def without_uu_files(raw: bytes) -> tuple[bytes, list[bytes]]:
    """Take the files out that old programs put between the lines of a text, and return their names."""
    if b"begin " not in raw:
        return raw, []
    names: list[bytes] = []

    def taken(match: "re.Match[bytes]") -> bytes:
        names.append(match[1])
        return b""

    return _UU_TEXT.sub(taken, raw), names


def _quoted_printable(raw: bytes) -> tuple[bytes, str | None]:
    raw = _SOFT_BREAK.sub(b"=", raw)
    defect = "quoted-printable is broken" if _BAD_ESCAPE.search(raw) else None
    return binascii.a2b_qp(raw), defect


def _base64(raw: bytes) -> tuple[bytes, str | None]:
    """Decode as RFC 2045, 6.8 says: what is not of the alphabet is left out; after the padding is the end.

    Some programs join encoded pieces, padding and all; those go on. Lines that a mailing list put behind do not.
    """
    defect = None
    if raw.translate(None, _NOT_BASE64 + b"=") != raw.translate(None, _SPACE + b"="):
        defect = "base64 has characters in it that are not base64"
    head, padding, rest = raw.partition(b"=")
    pieces = [head]
    if padding and (rest := rest.lstrip(b"= \t\r\n")):
        if rest.translate(None, _SPACE) == rest.translate(None, _NOT_BASE64):
            pieces += [piece for piece in rest.split(b"=") if piece]
        else:
            defect = "base64 has text behind it"
    decoded = []
    for piece in pieces:
        cleaned = piece.translate(None, _NOT_BASE64)
        if len(cleaned) % 4 == 1:
            cleaned, defect = cleaned[:-1], defect or "base64 is cut"
        decoded.append(binascii.a2b_base64(cleaned + b"=" * (-len(cleaned) % 4)))
    if not padding and len(head.translate(None, _NOT_BASE64)) % 4:
        defect = defect or "base64 is cut"
    return b"".join(decoded), defect


def _uu(raw: bytes) -> tuple[bytes, str | None]:
    begin = _UU_BEGIN.search(raw)
    if begin is None:
        return raw, "uuencode without a beginning"
    end = _UU_END.search(raw, begin.end())
    defect = None if end else "uuencode without an end"
    decoded = []
    for line in raw[begin.end() : end.start() if end else len(raw)].splitlines():
        if not line.strip():
            continue
        try:
            decoded.append(binascii.a2b_uu(line))
        except binascii.Error:
            # Some encoders write more characters than the line says; what it says counts.
            count = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                decoded.append(binascii.a2b_uu(line[:count]))
            except binascii.Error:
                defect = "uuencode is broken"
    return b"".join(decoded), defect
