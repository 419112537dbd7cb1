"""Names of folders: what a category may be called, and how a Maildir writes it."""

import base64
import re

from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.core.phrases import shortened

_CATEGORY = re.compile(r"\w(?:[\w -]{0,62}[\w-])?")
_ENCODED = re.compile(r"&([A-Za-z0-9+,]*)-")
_TO_ENCODE = re.compile(r"[^ -~]+|&")


def check_folder(name: str, path: str) -> str:
    """Return ``name`` if a folder may be called so in every kind of store. Raises `InvalidInputError` at ``path``.

    A dot would open a subfolder in a Maildir, a slash one in the others.
    """
    if not _CATEGORY.fullmatch(name):
        raise InvalidInputError.at(
            path,
            "expected 1 to 64 letters, digits, '_', '-' and spaces (inside), for a folder is called so; "
            f"got {shortened(name)!r}",
        )
    return name


def to_utf7(name: str) -> str:
    """Return the name as IMAP servers write it in a Maildir (RFC 3501 §5.1.3: modified UTF-7)."""

    def encoded(match: re.Match[str]) -> str:
        if match[0] == "&":
            return "&-"
        packed = base64.b64encode(match[0].encode("utf-16-be")).decode().rstrip("=").replace("/", ",")
        return f"&{packed}-"

    return _TO_ENCODE.sub(encoded, name)


def shown(name: str) -> str:
    """Return the name of a file as text that can be sent: bytes that are no UTF-8 are written out."""
    return name.encode("utf-8", "backslashreplace").decode()


def from_utf7(name: str) -> str:
    """Return the name that people see; one that is not written as it should be stays as it is."""
    name = shown(name)

    def decoded(match: re.Match[str]) -> str:
        if not match[1]:
            return "&"
        packed = match[1].replace(",", "/")
        return base64.b64decode(packed + "=" * (-len(packed) % 4)).decode("utf-16-be")

    try:
        return _ENCODED.sub(decoded, name)
    except ValueError:
        return name
