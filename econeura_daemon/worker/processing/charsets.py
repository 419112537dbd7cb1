"""Bytes to text, whatever the label says.

Labels are read as browsers read them (https://encoding.spec.whatwg.org/#names-and-labels): iso-8859-1 and us-ascii are
windows-1252, gb2312 and gbk are gb18030, because that is what senders mean by them. Codecs of Python that are no
character sets (``unicode_escape``, ``punycode``, which is quadratic) are never asked. UTF-7 is read where a mail
says so (old Outlooks do), and never guessed: nothing here is shown to a browser.
"""

import codecs
import re
from functools import lru_cache

_ALIASES = {
    "ansi_x3.4-1968": "ascii",
    "ascii": "ascii",
    "us-ascii": "ascii",
    "usascii": "ascii",
    "big5": "big5hkscs",
    "euc-cn": "gb18030",
    "gb2312": "gb18030",
    "gb_2312-80": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "cp936": "gb18030",
    "iso-8859-8-e": "iso-8859-8",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "ksc5601": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "sjis": "cp932",
    "unicode-1-1-utf-7": "utf-7",
    "unicode-1-1-utf-8": "utf-8",
    "utf8mb4": "utf-8",
    "x-mac-roman": "mac-roman",
    "macintosh": "mac-roman",
    "x-mac-cyrillic": "mac-cyrillic",
    "koi8": "koi8-r",
    "koi": "koi8-r",
    "iso-2022-jp": "iso2022_jp",
}
_NOT_SAID = frozenset(
    {
        "",
        "unknown-8bit",
        "x-unknown",
        "unknown",
        "default",
        "binary",
        "8bit",
        "7bit",
        "none",
        "x-user-defined",
    }
)
"""Labels by which a sender says that it does not know."""
_LABEL = re.compile(r"[a-z0-9][a-z0-9_.:+-]{0,62}")
_CHARSET = re.compile(
    r"utf-?(7|8|16|32)(-?[bl]e)?|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|gb18030|big5(hkscs)?|euc_(kr|jp|jis_2004|jisx0213)"
    r"|shift_jis\w*|iso2022_\w+|mac-\w+|hz|johab|ptcp154|kz1048|hp-roman8|tis-620"
)
"""Python's names of the codecs that are character sets."""
_LATIN_1 = "iso8859-1"
_UTF_8 = "utf-8"
_WINDOWS_1252 = "".join(
    chr(code) if character == "\ufffd" else character
    for code, character in enumerate(bytes(range(256)).decode("cp1252", "replace"))
)
"""All 256 of them, as the standard of browsers has it: the five that Microsoft left out are C1 controls."""
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_NEXT_OF = {"iso2022_jp": ("iso2022_jp_ext", "iso2022_jp_3"), "euc_jp": ("cp932",), "gb18030": ()}
"""What is tried when the codec that was named refuses: supersets that senders use under its name."""


def decode(raw: bytes, label: str | None) -> tuple[str, str | None]:
    """Return the text, which can always be encoded again, and what was wrong with the label or the bytes (or None)."""
    for mark, utf in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if raw.startswith(mark):
            return _sound(raw[len(mark) :].decode(utf, "replace")), None
    name = codec_of(label)
    if name is None or name == "ascii":
        text, guessed = _guess(raw)
        asked = (label or "").strip(" \t\"'").lower()
        is_known = name is not None or asked in _NOT_SAID
        return text, guessed if is_known else f"charset {asked[:40]!a} is not known"
    if name in {_LATIN_1, "cp1252"}:
        return _latin(raw, label or "")
    return _utf_8(raw) if name == _UTF_8 else _other(raw, name)


@lru_cache(maxsize=256)
def codec_of(label: str | None) -> str | None:
    """Return Python's name of the codec for a label, None if there is none or the label says nothing."""
    wanted = (label or "").strip(" \t\"'").lower()
    if wanted in _NOT_SAID or _LABEL.fullmatch(wanted) is None:
        return None
    try:
        name = codecs.lookup(_ALIASES.get(wanted, wanted)).name
    except LookupError:
        return None
    return name if _CHARSET.fullmatch(name) else None


def windows_1252(raw: bytes) -> str:
    """Decode any bytes."""
    return codecs.charmap_decode(raw, "strict", _WINDOWS_1252)[0]


def _guess(raw: bytes) -> tuple[str, str | None]:
    """UTF-8 if it can be, else windows-1252: together nearly all of what comes without a label."""
    if raw.isascii():
        return raw.decode("ascii"), None
    try:
        return raw.decode(), "charset is not said, read as utf-8"
    except UnicodeDecodeError:
        return windows_1252(raw), "charset is not said, read as windows-1252"


def _latin(raw: bytes, label: str) -> tuple[str, str | None]:
    if raw.isascii():
        return raw.decode("ascii"), None
    try:
        # Real Latin-1 that happens to be valid UTF-8 is next to impossible; the mistake is a common one.
        return raw.decode(), f"charset {label[:40]!a} is wrong, read as utf-8"
    except UnicodeDecodeError:
        return windows_1252(raw), None


def _utf_8(raw: bytes) -> tuple[str, str | None]:
    try:
        return raw.decode(), None
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return raw.decode(errors="replace"), "utf-8 is cut in the middle of a character"
    if _MULTIBYTE.search(raw) is None:
        return windows_1252(raw), "charset 'utf-8' is wrong, read as windows-1252"
    return raw.decode(errors="replace"), "utf-8 is broken"


def _other(raw: bytes, name: str) -> tuple[str, str | None]:
    for candidate in (name, *_NEXT_OF.get(name, ())):
        try:
            return _sound(raw.decode(candidate)), None
        except (UnicodeDecodeError, LookupError):
            continue
    if not raw.isascii():
        try:
            return raw.decode(), f"charset {name!a} is wrong, read as utf-8"
        except UnicodeDecodeError:
            pass
    return _sound(raw.decode(name, "replace")), f"{name} is broken"


def _sound(text: str) -> str:
    """Put a sign in the place of half a surrogate pair, which UTF-7 and UTF-16 can carry and JSON cannot."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
