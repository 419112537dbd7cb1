"""Which requests a service is open to: a list of entries such as ``GET /health`` and ``POST /emails/*``.

The instance, not we, takes the path apart in the end, in a way that is not known here: it may decode it twice, resolve
dots before or after that, cut off parameters, join slashes. So a path that can be understood in more than one way fits
no entry. What counts as such is what Spring Security's StrictHttpFirewall refuses.
"""

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import attrs

from econeura_daemon.core.phrases import shortened

EVERYTHING = "* /*"
_ENTRY = re.compile(r"(\*|[A-Z][A-Z-]{0,31}) (/\S{0,1023})")
_SHOWN = 20
_AMBIGUOUS = re.compile(r"[;\\%?#\x00-\x1f\x7f]|//|/\.{1,2}(?:/|$)")
"""In a path that was decoded once."""
_ODDLY_ENCODED = re.compile(rb"%2f|%(?![0-9A-Fa-f]{2})", re.IGNORECASE)


def check_entry(_instance: object, _field: "attrs.Attribute[tuple[str, ...]]", value: str) -> None:
    """Validate an entry."""
    found = _ENTRY.fullmatch(value)
    if found is None:
        example = "'GET /health' or 'POST /emails/*'"
        raise ValueError(f"expected a method or *, and a path, such as {example}, got {shortened(value)!r}")
    path = found[2]
    if any("*" in segment and segment != "*" for segment in path.split("/")):
        raise ValueError(f"expected * as a whole segment of the path only, got {shortened(value)!r}")
    if _AMBIGUOUS.search(path):
        wrong = r"neither percent-encoded nor with //, /./, /../ or any of ; \ ? #"
        raise ValueError(f"expected a path {wrong}, got {shortened(value)!r}")


class AllowList:
    """What of a service may be asked for."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        """``entries``: as `check_entry` lets them pass."""
        self.entries = entries
        self.is_open = EVERYTHING in entries
        """Whether there is nothing that it does not let pass."""
        self._entries = [(entry.partition(" ")[0], _pattern(entry.partition(" ")[2])) for entry in entries]

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(entries: tuple[str, ...]) -> "AllowList":
        """Return the list of these entries."""
        return AllowList(entries)

    def lets(self, method: str, path: bytes) -> bool:
        """Tell whether a request may pass. ``path``: as it was sent, without the query."""
        if self.is_open:
            return True
        decoded = _understood(path)
        methods = {"*", method, "GET"} if method == "HEAD" else {"*", method}
        return decoded is not None and any(
            allowed in methods and pattern.fullmatch(decoded) for allowed, pattern in self._entries
        )

    def __str__(self) -> str:
        more = f" and {len(self.entries) - _SHOWN} more" if len(self.entries) > _SHOWN else ""
        return (", ".join(self.entries[:_SHOWN]) or "nothing") + more


def _pattern(path: str) -> re.Pattern[str]:
    """``*`` is any one segment; at the end, all that is below."""
    *segments, last = path.split("/")
    parts = ["[^/]+" if segment == "*" else re.escape(segment) for segment in segments]
    return re.compile("/".join([*parts, ".*" if last == "*" else re.escape(last)]), re.DOTALL)


def _understood(path: bytes) -> str | None:
    """Return the path decoded, None if there is doubt what it means."""
    if _ODDLY_ENCODED.search(path):
        return None
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return None
    return None if _AMBIGUOUS.search(decoded) else decoded
