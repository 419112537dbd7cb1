"""What a stranger may configure for calls to him: a URL and headers. Every flaw is said at once."""

import re
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

import idna

from econeura_daemon.core.errors import EgressRefusedError, Flaw
from econeura_daemon.core.phrases import child_path
from econeura_daemon.wire.egress import EgressGuard

MAX_URL_LENGTH = 2048
"""Characters; what receivers and proxies accept everywhere (RFC 9110 4.1 asks for 8000 at least)."""
MAX_HEADERS = 32
MAX_HEADER_NAME = 128
MAX_HEADER_VALUE = 4096

_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\\\ud800-\udfff]")
"""Control characters, blanks, backslashes, halves of surrogate pairs: parsers disagree about each of them."""
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
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
    if "[" in netloc:
        return _address_flaws(netloc, host, guard)
    try:
        ascii_host = host if host.isascii() else idna.encode(host).decode("ascii")
        if "xn--" in ascii_host:
            idna.decode(ascii_host)
    except (idna.IDNAError, UnicodeError) as error:
        return [f"the host {host!r} is no internationalized name (IDNA 2008): {error}"]
    labels = ascii_host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Resolvers read 2130706433, 0x7f.1, 0177.0.0.1, 127.1 as 127.0.0.1: WHATWG URL, "ends in a number".
        return _address_flaws(netloc, host, guard)
    if len(ascii_host) > 253:
        return [f"a host name has at most 253 characters, this one has {len(ascii_host)}"]
    return _label_flaws(labels)


def _label_flaws(labels: list[str]) -> list[str]:
    bad = [label for label in labels if _LABEL.fullmatch(label) is None]
    if bad:
        return [f"{bad[0]!r} is no part of a host name: 1 to 63 of a-z, 0-9, - and _"]
    return []


def _address_flaws(netloc: str, host: str, guard: EgressGuard | None) -> list[str]:
    try:
        address = IPv6Address(host) if "[" in netloc else IPv4Address(host)
    except AddressValueError:
        return [f"the host {host!r} is an address in an unusual form; write 192.0.2.1 or [2001:db8::1]"]
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return [f"the host {host!r} names a network interface, which only this machine understands"]
    if guard is not None:
        try:
            guard.check(address)
        except EgressRefusedError as error:
            return [str(error)]
    return []


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that ``host`` spells out, None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


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
