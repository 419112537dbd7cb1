"""What a stranger may configure for calls to him: a URL and headers. Every flaw is said at once."""

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from econeura_daemon.core.errors import EgressRefusedError, Flaw
from econeura_daemon.core.hosts import host_flaw, literal_address
from econeura_daemon.core.phrases import child_path
from econeura_daemon.wire.egress import EgressGuard

MAX_URL_LENGTH = 2048
"""Characters; what receivers and proxies accept everywhere (RFC 9110 4.1 asks for 8000 at least)."""
MAX_HEADERS = 32
MAX_HEADER_NAME = 128
MAX_HEADER_VALUE = 4096

_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\\\ud800-\udfff]")
"""Control characters, blanks, backslashes, halves of surrogate pairs: parsers disagree about each of them."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_VALUE = re.compile(r"[\x20-\x7e\xa0-\xff\t]*")  # RFC 9110 5.5, obs-text without the C1 controls

RESERVED_HEADERS = frozenset({
    # Framing and the connection: RFC 9110 7.6.1, RFC 9112 6.
    "connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "proxy-authenticate",
    "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    # Said by the daemon itself.
    "accept-encoding", "content-encoding", "content-type", "traceparent", "tracestate", "user-agent",
})  # fmt: skip
RESERVED_PREFIXES = ("webhook-", "x-webhook-")


def check_url(url: str, guard: EgressGuard | None = None, path: str = "$.url") -> list[Flaw]:
    """Return what is wrong with a URL that the daemon is asked to call; nothing: an empty list.

    With a ``guard`` a literal address is judged too, so that its owner hears of it at once and not from the
    first delivery; what a name resolves to is judged whenever it is called.
    """
    return [Flaw(path, message) for message in _url_flaws(url, guard)]


def _url_flaws(url: str, guard: EgressGuard | None) -> list[str]:
    if len(url) > MAX_URL_LENGTH:
        return [f"a URL has at most {MAX_URL_LENGTH} characters, this one has {len(url)}"]
    unsafe = _UNSAFE.search(url)
    if unsafe is not None:
        return [f"the character {unsafe[0]!r} at position {unsafe.start()} does not belong into a URL"]
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return [f"not a URL: {error}"]
    flaws = []
    if parts.scheme not in {"http", "https"}:
        flaws.append(f"expected a URL that begins with http:// or https://, got {url[:40]!r}")
    if "@" in parts.netloc:
        flaws.append("a URL with a user name or password is not accepted; put credentials into a header")
    if "#" in url:
        flaws.append("a fragment (#…) is never sent; leave it out")
    flaws.extend(_port_flaws(parts))
    flaws.extend(_host_flaws(parts.netloc, parts.hostname or "", guard))
    return flaws


def _port_flaws(parts: SplitResult) -> list[str]:
    text = parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
    if text and not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        return [f"expected a port from 1 to 65535, got {text!r}"]
    return []


def _host_flaws(netloc: str, host: str, guard: EgressGuard | None) -> list[str]:
    if not host:
        return ["the URL names no host"]
    flaw = host_flaw(host, in_brackets="[" in netloc)
    if flaw is not None:
        return [flaw]
    address = literal_address(host)
    if guard is not None and address is not None:
        try:
            guard.check(address)
        except EgressRefusedError as error:
            return [str(error)]
    return []


def check_headers(headers: Mapping[str, str], path: str = "$.headers") -> list[Flaw]:
    """Return what is wrong with headers that somebody wants sent along; nothing: an empty list.

    httpx accepts CR and LF in a value when a request is built, so nothing that could end a line, or that
    the daemon says itself, gets as far as that.
    """
    flaws = []
    if len(headers) > MAX_HEADERS:
        flaws.append(Flaw(path, f"at most {MAX_HEADERS} headers, got {len(headers)}"))
    seen: set[str] = set()
    for name, value in headers.items():
        message = _name_flaw(name, seen) or _value_flaw(value)
        if message is not None:
            flaws.append(Flaw(path + child_path(name)[1:], message))
        seen.add(name.lower())
    return flaws


def _name_flaw(name: str, seen: set[str]) -> str | None:
    if _TOKEN.fullmatch(name) is None:
        return "a header's name is made of letters, digits and !#$%&'*+-.^_`|~"
    if len(name) > MAX_HEADER_NAME:
        return f"a header's name has at most {MAX_HEADER_NAME} characters"
    lower = name.lower()
    if lower in RESERVED_HEADERS or lower.startswith(RESERVED_PREFIXES):
        return "this header is set by the daemon itself"
    if lower in seen:
        return "this header is given twice; names differ in more than upper and lower case"
    return None


def _value_flaw(value: str) -> str | None:
    if len(value) > MAX_HEADER_VALUE:
        return f"a header's value has at most {MAX_HEADER_VALUE} characters, this one has {len(value)}"
    if _VALUE.fullmatch(value) is None:
        return (
            "a header's value is made of Latin-1 characters, without CR, LF, NUL or other control characters"
        )
    if value != value.strip():
        return "a header's value neither begins nor ends with a blank"
    return None
