"""Where one request ends and the next begins: HTTP/1.1 framing, strictly (RFC 9112), free of I/O.

A connection passes every byte it reads through a `Framer` before any other parser sees it. What comes out is
written anew, so no leniency of a parser behind it can be reached:

- line ends are CRLF; a bare LF or CR, a folded line, a space before the colon, a control character: refused;
- one Host (HTTP/1.0: at most one), one Content-Length of digits, or Transfer-Encoding ``chunked`` alone:
  never both, never twice, never in HTTP/1.0. Two programs that disagree about the end of a request is what
  smuggling needs;
- head, header count, chunk lines and trailers are bounded;
- an upgrade offer (WebSocket, h2c) is ignored, as RFC 9110 section 7.8 allows: those headers are dropped and
  the request is answered as HTTP/1.1. HTTP/2 with prior knowledge is 505;
- ``Expect: 100-continue`` is taken out; the connection sends the 100 when the application first asks for the
  body;
- chunk extensions and trailers are checked and dropped; an absolute target becomes a path and a Host.

After a `Refusal` nothing on the connection can be trusted: answer it and close.
"""

import re
from enum import Enum, auto

import attrs

MAX_TARGET = 8 * 1024
MAX_HEAD = 32 * 1024
MAX_HEADERS = 100
MAX_CHUNK_LINE = 256
MAX_TRAILERS = 8 * 1024
MAX_PIECE = 64 * 1024
"""The most of a body that is passed on at once."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_FIRST = re.compile(_TOKEN)
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb"{1,32}) ([\x21\x22\x24-\x7e]+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?@]+)(/[^?]*)?(\?.*)?")
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(:[0-9]{0,5})?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")  # a CR at the very end may be half of a CRLF
_DROPPED = frozenset((b"upgrade", b"http2-settings", b"expect"))


@attrs.frozen
class Refusal:
    """What was received is no request; ``slug`` is one of `problems.PROBLEMS`."""

    slug: str
    detail: str


@attrs.frozen
class Head:
    """One request's head, checked."""

    wire: bytes
    """The head as the parser behind is to read it."""
    expects_continue: bool
    has_body: bool


class _RefusedError(Exception):
    """Carries a refusal from where it is found to the edge, where it becomes a value."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(slug, detail)


class _Part(Enum):
    HEAD = auto()
    LENGTH = auto()
    CHUNK_LINE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILERS = auto()


class Framer:
    """Cuts what one connection receives into heads and bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._part = _Part.HEAD
        self._searched = 0
        self._left = 0

    @property
    def buffered(self) -> int:
        """Bytes that were received and not yet passed on."""
        return len(self._buffer)

    @property
    def in_body(self) -> bool:
        """Whether the body of the last head has not ended yet."""
        return self._part is not _Part.HEAD

    def feed(self, data: bytes) -> None:
        """Take what the socket gave."""
        self._buffer += data

    def next_head(self) -> Head | Refusal | None:
        """Return the next request's head, None until more is fed. Only between requests."""
        try:
            return self._next_head()
        except _RefusedError as refused:
            return refused.refusal

    def _next_head(self) -> Head | None:
        buffer = self._buffer
        while buffer[:2] == b"\r\n" and not self._searched:  # RFC 9112 section 2.2: an empty line too many
            del buffer[:2]
        if not buffer or buffer == b"\r":
            return None
        if not _FIRST.match(buffer):
            raise _RefusedError("malformed-request", "The connection does not speak HTTP/1.1.")
        start = max(0, self._searched - 3)
        end = buffer.find(b"\r\n\r\n", start)
        if _BARE.search(buffer, start, end + 4 if end >= 0 else len(buffer)):
            raise _RefusedError("malformed-request", "A line of the head does not end with CRLF.")
        if end < 0:
            self._searched = len(buffer)
            self._refuse_large(len(buffer))
            return None
        self._refuse_large(end)
        lines = bytes(buffer[:end]).split(b"\r\n")
        del buffer[: end + 4]
        self._searched = 0
        return self._head(lines)

    def _refuse_large(self, size: int) -> None:
        line_end = self._buffer.find(b"\r\n")
        if (line_end if line_end >= 0 else size) > MAX_TARGET + 64:
            raise _RefusedError("uri-too-long", f"A request target may have {MAX_TARGET} bytes.")
        if size > MAX_HEAD:
            raise _RefusedError("headers-too-large", f"A request's head may have {MAX_HEAD} bytes.")

    def _head(self, lines: list[bytes]) -> Head:
        request_line = _REQUEST_LINE.fullmatch(lines[0])
        if request_line is None:
            raise _RefusedError("malformed-request", "The request line is not METHOD SP target SP HTTP/1.1.")
        method, target, major, minor = request_line.groups()
        if major != b"1" or minor not in {b"0", b"1"}:
            raise _RefusedError("http-version-not-supported", "Only HTTP/1.1 and HTTP/1.0 are served.")
        if len(lines) - 1 > MAX_HEADERS:
            raise _RefusedError("headers-too-large", f"A request may have {MAX_HEADERS} header lines.")
        fields: list[tuple[bytes, bytes]] = []
        for line in lines[1:]:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise _RefusedError("malformed-request", "A header line is not 'name: value'.")
            fields.append((field[1].lower(), field[2].rstrip(b" \t")))
        hosts = [value for name, value in fields if name == b"host"]
        target, host = _locate(method, target, hosts, minor)
        self._frame_body(fields, minor)
        expectations = [value.lower() for name, value in fields if name == b"expect"]
        if any(value != b"100-continue" for value in expectations):
            raise _RefusedError("expectation-failed", "The only expectation that is met is 100-continue.")
        kept = [(name, value) for name, value in fields if name not in _DROPPED and name != b"host"]
        if host is not None:
            kept.insert(0, (b"host", host))
        wire = b"%b %b HTTP/1.%b\r\n" % (method, target, minor)
        wire += b"".join(b"%b: %b\r\n" % field for field in kept) + b"\r\n"
        return Head(wire, bool(expectations) and self.in_body and minor == b"1", self.in_body)

    def _frame_body(self, fields: list[tuple[bytes, bytes]], minor: bytes) -> None:
        """Find out how the body ends; the part that comes next tells it."""
        lengths = [value for name, value in fields if name == b"content-length"]
        codings = [value for name, value in fields if name == b"transfer-encoding"]
        if codings:
            if lengths or len(codings) > 1 or minor == b"0":
                raise _RefusedError(
                    "malformed-request",
                    "Transfer-Encoding comes once, in HTTP/1.1, and without Content-Length (RFC 9112, 6.1).",
                )
            if codings[0].lower() != b"chunked":
                raise _RefusedError(
                    "not-implemented", "The only transfer coding that is understood is chunked."
                )
            self._part = _Part.CHUNK_LINE
        elif lengths:
            if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
                raise _RefusedError("malformed-request", "Content-Length comes once and is a number.")
            self._left = int(lengths[0])
            self._part = _Part.LENGTH if self._left else _Part.HEAD

    def next_body(self) -> bytes | Refusal | None:
        """Return some more of the body as the parser behind is to read it, None until more is fed.

        The body has ended once `in_body` is false. Chunks come out re-framed, without extensions and
        trailers.
        """
        pieces = bytearray()
        try:
            while self.in_body and len(pieces) < MAX_PIECE:
                step = self._step()
                if step is None:
                    break
                pieces += step
        except _RefusedError as refused:
            return refused.refusal
        return bytes(pieces) or None

    def _step(self) -> bytes | None:
        if self._part is _Part.LENGTH:
            return self._take()
        if self._part is _Part.CHUNK:
            taken = self._take()
            return b"%x\r\n%b\r\n" % (len(taken), taken) if taken else None
        if self._part is _Part.CHUNK_END:
            return self._chunk_end()
        if self._part is _Part.CHUNK_LINE:
            return self._chunk_line()
        return self._trailers()

    def _take(self) -> bytes | None:
        taken = bytes(self._buffer[: min(self._left, MAX_PIECE)])
        if not taken:
            return None
        del self._buffer[: len(taken)]
        self._left -= len(taken)
        if not self._left:
            self._part = _Part.HEAD if self._part is _Part.LENGTH else _Part.CHUNK_END
        return taken

    def _chunk_end(self) -> bytes | None:
        end = bytes(self._buffer[:2])
        if end == b"\r\n":
            del self._buffer[:2]
            self._part = _Part.CHUNK_LINE
            return b""
        if b"\r\n".startswith(end):
            return None
        raise _RefusedError("malformed-request", "A chunk does not end with CRLF.")

    def _chunk_line(self) -> bytes | None:
        line = self._line(MAX_CHUNK_LINE)
        if line is None:
            return None
        chunk = _CHUNK.fullmatch(line)
        if chunk is None:
            raise _RefusedError("malformed-request", "A chunk does not begin with its size.")
        self._left = int(chunk[1], 16)
        self._part = _Part.CHUNK if self._left else _Part.TRAILERS
        if self._part is _Part.TRAILERS:
            self._left = MAX_TRAILERS
        return b""

    def _trailers(self) -> bytes | None:
        line = self._line(self._left)
        if line is None:
            return None
        if not line:
            self._part = _Part.HEAD
            return b"0\r\n\r\n"
        self._left -= len(line) + 2
        if not _FIELD.fullmatch(line):
            raise _RefusedError("malformed-request", "A trailer line is not 'name: value'.")
        return b""

    def _line(self, limit: int) -> bytes | None:
        end = self._buffer.find(b"\n", 0, max(limit, 0) + 2)
        if end < 0:
            if len(self._buffer) > limit + 1:
                raise _RefusedError("malformed-request", "A line within the body is too long.")
            return None
        if end == 0 or self._buffer[end - 1] != ord("\r"):
            raise _RefusedError("malformed-request", "A line within the body does not end with CRLF.")
        line = bytes(self._buffer[: end - 1])
        del self._buffer[: end + 1]
        return line


def _locate(method: bytes, target: bytes, hosts: list[bytes], minor: bytes) -> tuple[bytes, bytes | None]:
    """Return the target as a path, and the Host that counts (RFC 9112 section 3.2)."""
    if len(hosts) > 1 or (not hosts and minor == b"1"):
        raise _RefusedError("malformed-request", "HTTP/1.1 needs exactly one Host.")
    host = hosts[0] if hosts else None
    if len(target) > MAX_TARGET:
        raise _RefusedError("uri-too-long", f"A request target may have {MAX_TARGET} bytes.")
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or method == b"CONNECT":
            raise _RefusedError("malformed-request", "The request target is neither a path nor a URL.")
        host = absolute[1]
        target = (absolute[2] or b"/") + (absolute[3] or b"")
    if host is not None and not _HOST.fullmatch(host):
        raise _RefusedError("malformed-request", "Host is not a name and a port.")
    return target, host
