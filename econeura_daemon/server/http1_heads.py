"""What a request's head says: HTTP/1.1, strictly (RFC 9112), as a pure function of its bytes.

httptools (llhttp) was weighed here and left out. It is faster, by 2 to 9 us a request when these regular
expressions have their memory to help them, by up to 19 when they have not (`benchmarks/http_heads.py`). But it
skips the body of a request that offers an upgrade, cannot be paused between pipelined requests, knows no
limits, and refuses methods that it does not know as garbage (docs/decisions/0011-server-heads-are-read-by-us.md).
`tests/http/test_http1_oracles.py` compares the two, and both with h11.
"""

import re
from urllib.parse import unquote

import attrs

from econeura_daemon.server.asgi import Header

MAX_TARGET = 8 * 1024
MAX_HEAD = 32 * 1024
MAX_HEADERS = 100

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_FIRST = re.compile(_TOKEN)
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb"{1,32}) ([\x21\x22\x24-\x7e]+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?@]+)(/[^?]*)?(\?.*)?")
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(:[0-9]{0,5})?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")  # a CR at the very end may be half of a CRLF

_DROPPED = frozenset((b"upgrade", b"http2-settings", b"expect"))
ROUTES_OR_FRAMES = frozenset((b"host", b"content-length", b"transfer-encoding"))
"""Headers that are no trailers (RFC 9110 section 6.5.1)."""
_ONCE = ROUTES_OR_FRAMES | {b"content-type"}
_SECRET = frozenset((b"authorization", b"cookie", b"proxy-authorization"))
_NEVER_TWICE = _SECRET | {b"idempotency-key", b"traceparent", b"x-request-id"}

_MEMORY = 512
"""Heads, and lines, that are remembered with what they say: clients repeat theirs word for word."""
_TEXT = 1024
"""The longest head that is remembered."""
_LINE = 256
"""The longest line that is."""


@attrs.frozen
class Refusal:
    """What was received is no request; ``slug`` is one of `problems.PROBLEMS`."""

    slug: str
    detail: str


class RefusedError(Exception):
    """Carries a refusal from where it is found to the edge, where it becomes a value."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(slug, detail)


@attrs.define
class Head:
    """One request's head, checked. Not to be changed: parts are shared between requests."""

    method: str
    path: str
    """Without percent-encoding; ``*`` for OPTIONS of the whole server."""
    raw_path: bytes
    query: bytes
    minor: int
    """Of HTTP/1.x."""
    headers: list[Header]
    """Names in lower case, in their order; what the connection deals with itself is left out."""
    first: dict[bytes, bytes]
    """The first value of each name."""
    length: int | None
    """Bytes of the body; None: it comes in chunks."""
    keeps_alive: bool
    """Whether the client will send another request after this one."""
    expects_continue: bool
    text: bytes = b""
    """What all this was read from, if it is remembered."""

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self.length != 0

    @property
    def wire(self) -> bytes:
        """The head written anew."""
        target = self.raw_path + (b"?" + self.query if self.query else b"")
        lines = b"".join(b"%b: %b\r\n" % field for field in self.headers)
        return b"%b %b HTTP/1.%d\r\n%b\r\n" % (self.method.encode(), target, self.minor, lines)


_RequestLine = tuple[str, bytes, str, bytes, bytes, int]

_request_lines: dict[bytes, _RequestLine] = {}
_fields: dict[bytes, Header] = {}
_heads: dict[bytes, Head] = {}


def parse_head(text: bytes) -> Head:
    """Return what a head says, given without the empty line at its end. Raises `RefusedError`."""
    return _heads.get(text) or _parse_head(text)


def _parse_head(text: bytes) -> Head:
    lines = text.split(b"\r\n")
    if len(lines) > MAX_HEADERS + 1:
        raise RefusedError("headers-too-large", f"A request may have {MAX_HEADERS} header lines.")
    line = lines[0]
    method, target, path, raw_path, query, minor = _request_lines.get(line) or _read_request_line(line)
    headers = [_fields.get(line) or _read_field(line) for line in lines[1:]]
    first = dict(reversed(headers))
    if len(first) != len(headers):
        _refuse_repeated(headers)
    if not raw_path:  # an absolute target, whose host counts (RFC 9112 section 3.2.2)
        raw_path, query, host = _split_absolute(method, target)
        path = unquote(raw_path.decode())
        if minor == 0 or b"host" in first:
            headers = [(b"host", host), *(field for field in headers if field[0] != b"host")]
            first[b"host"] = host
    _check_host(first.get(b"host"), minor)
    length = _read_length(first, minor)
    keeps_alive = minor == 1 and not (b"connection" in first and _says_close(headers))
    expects_continue = False
    if not _DROPPED.isdisjoint(first):
        if b"expect" in first:
            _check_expectations(headers)
            expects_continue = length != 0 and minor == 1
        headers = [field for field in headers if field[0] not in _DROPPED]
        first = dict(reversed(headers))
    head = Head(method, path, raw_path, query, minor, headers, first, length, keeps_alive, expects_continue)
    if len(text) <= _TEXT and _NEVER_TWICE.isdisjoint(first):
        if len(_heads) >= _MEMORY:
            _heads.clear()
        head.text = text
        _heads[text] = head
    return head


def _check_host(host: bytes | None, minor: int) -> None:
    if host is None:
        if minor:
            raise RefusedError("malformed-request", "HTTP/1.1 needs exactly one Host.")
    elif not _HOST.fullmatch(host):
        raise RefusedError("malformed-request", "Host is not a name and a port.")


def _read_length(first: dict[bytes, bytes], minor: int) -> int | None:
    text = first.get(b"content-length")
    if b"transfer-encoding" in first:
        _check_coding(first[b"transfer-encoding"], minor, has_length=text is not None)
        return None
    if text is None:
        return 0
    if not _LENGTH.fullmatch(text):
        raise RefusedError("malformed-request", "Content-Length comes once and is a number.")
    return int(text)


def forget() -> None:
    """Forget every head and line, as a benchmark or a test may want it."""
    for memory in (_request_lines, _fields, _heads):
        memory.clear()


def refuse_unfinished(buffer: bytearray, end: int, looked_at: int = 0) -> None:
    """Refuse a head by what has arrived of it, if it can be told; ``end``: where it ends, or -1.

    The first ``looked_at`` bytes were looked at before, so a head that comes byte by byte is not read anew for each.
    Raises `RefusedError`.
    """
    if not _FIRST.match(buffer):
        raise RefusedError("malformed-request", "The connection does not speak HTTP/1.1.")
    begin = max(0, looked_at - 1)  # its last byte may have been half of a CRLF
    if _BARE.search(buffer, begin, end + 4 if end >= 0 else len(buffer)):
        raise RefusedError("malformed-request", "A line of the head does not end with CRLF.")
    size = end if end >= 0 else len(buffer)
    line_end = buffer.find(b"\r\n")
    if (line_end if line_end >= 0 else size) > MAX_TARGET + 64:
        raise RefusedError("uri-too-long", f"A request target may have {MAX_TARGET} bytes.")
    if size > MAX_HEAD:
        raise RefusedError("headers-too-large", f"A request's head may have {MAX_HEAD} bytes.")


def read_field(line: bytes) -> Header:
    """Return name, in lower case, and value of a line. Raises `RefusedError`."""
    field = _FIELD.fullmatch(line)
    if field is None:
        raise RefusedError("malformed-request", "A header line is not 'name: value'.")
    return field[1].lower(), field[2].rstrip(b" \t")


def _read_field(line: bytes) -> Header:
    field = read_field(line)
    if len(line) <= _LINE and field[0] not in _NEVER_TWICE:
        if len(_fields) >= _MEMORY:
            _fields.clear()
        _fields[line] = field
    return field


def _read_request_line(line: bytes) -> _RequestLine:
    matched = _REQUEST_LINE.fullmatch(line)
    if matched is None:
        raise RefusedError("malformed-request", "The request line is not METHOD SP target SP HTTP/1.1.")
    method, target, major, minor = matched.groups()
    if major != b"1" or minor not in {b"0", b"1"}:
        raise RefusedError("http-version-not-supported", "Only HTTP/1.1 and HTTP/1.0 are served.")
    if len(target) > MAX_TARGET:
        raise RefusedError("uri-too-long", f"A request target may have {MAX_TARGET} bytes.")
    raw_path, _, query = target.partition(b"?")
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        raw_path = b""
    path = raw_path.decode()
    read = (method.decode(), target, unquote(path) if "%" in path else path, raw_path, query, int(minor))
    if len(line) <= _LINE:
        if len(_request_lines) >= _MEMORY:
            _request_lines.clear()
        _request_lines[line] = read
    return read


def _split_absolute(method: str, target: bytes) -> tuple[bytes, bytes, bytes]:
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or method == "CONNECT":
        raise RefusedError("malformed-request", "The request target is neither a path nor a URL.")
    return absolute[2] or b"/", (absolute[3] or b"?")[1:], absolute[1]


def _refuse_repeated(headers: list[Header]) -> None:
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            raise RefusedError("malformed-request", f"{name.decode().title()} comes more than once.")


def _check_coding(coding: bytes, minor: int, *, has_length: bool) -> None:
    if has_length or minor == 0:
        raise RefusedError(
            "malformed-request",
            "Transfer-Encoding comes in HTTP/1.1, and without Content-Length (RFC 9112, 6.1).",
        )
    if not coding.isascii() or not coding.lower().decode().isprintable():
        raise RefusedError("malformed-request", "Transfer-Encoding is not a list of names.")
    if coding.lower() != b"chunked":
        raise RefusedError("not-implemented", "The only transfer coding that is understood is chunked.")


def _says_close(headers: list[Header]) -> bool:
    return any(
        option.strip(b" \t").lower() == b"close"
        for name, value in headers
        if name == b"connection"
        for option in value.split(b",")
    )


def _check_expectations(headers: list[Header]) -> None:
    if any(name == b"expect" and value.lower() != b"100-continue" for name, value in headers):
        raise RefusedError("expectation-failed", "The only expectation that is met is 100-continue.")
