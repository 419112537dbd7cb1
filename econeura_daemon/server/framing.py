"""Where one request ends and the next begins: HTTP/1.1 framing, strictly (RFC 9112), free of I/O.

Every byte that a connection reads passes through a `Framer`; nothing else looks at it.

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

from econeura_daemon.server.http1_heads import (
    MAX_HEAD,
    MAX_HEADERS,
    MAX_TARGET,
    ROUTES_OR_FRAMES,
    Head,
    Refusal,
    RefusedError,
    parse_head,
    read_field,
    refuse_unfinished,
)

__all__ = ["MAX_HEAD", "MAX_HEADERS", "MAX_TARGET", "Framer", "Head", "Refusal"]

MAX_CHUNK_LINE = 256
MAX_TRAILERS = 8 * 1024
MAX_PIECE = 64 * 1024
"""The most of a body that is passed on at once."""
_MAX_STEPS = 512
"""Chunk lines that are read in one go: tiny chunks must not hold up the event loop."""

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t\x20-\x7e\x80-\xff]*)?")  # no space before: as h11 and llhttp


class _Part(Enum):
    HEAD = auto()
    LENGTH = auto()
    CHUNK_LINE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILERS = auto()


class Framer:
    """Cuts what one connection receives into heads and bodies."""

    __slots__ = ("_buffer", "_left", "_part", "_searched", "in_body")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._part = _Part.HEAD
        self._searched = 0
        self._left = 0
        self.in_body = False
        """Whether the body of the last head has not ended yet."""

    @property
    def buffered(self) -> int:
        """Bytes that were received and not yet passed on."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what the socket gave."""
        self._buffer += data

    def next_head(self) -> Head | Refusal | None:
        """Return the next request's head, None until more is fed. Only between requests."""
        buffer = self._buffer
        if not buffer:
            return None
        end = -1
        try:
            while buffer.startswith(b"\r\n") and not self._searched:
                del buffer[:2]  # RFC 9112 section 2.2: an empty line too many
            end = buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
            if end < 0 or end > MAX_HEAD:
                self._wait_for_head(end)
                return None
            head = parse_head(bytes(buffer[:end]))
        except RefusedError as refused:
            return self._first_flaw(end, refused)
        del buffer[: end + 4]
        self._searched = 0
        length = head.length
        if length != 0:
            self.in_body = True
            self._left = length or 0
            self._part = _Part.CHUNK_LINE if length is None else _Part.LENGTH
        return head

    def _wait_for_head(self, end: int) -> None:
        if not self._buffer or self._buffer == b"\r":
            return
        refuse_unfinished(self._buffer, end, self._searched)
        self._searched = len(self._buffer)

    def _first_flaw(self, end: int, found: RefusedError) -> Refusal:
        """Say what would have been said had the head come byte by byte."""
        try:
            refuse_unfinished(self._buffer, end)
        except RefusedError as refused:
            return refused.refusal
        return found.refusal

    def whole_body(self) -> bytes | None:
        """Return the body if all of it is here, at once; None leaves everything as it is."""
        if not self.in_body:
            return b""
        size = self._left
        if self._part is not _Part.LENGTH or len(self._buffer) < size:
            return None
        body = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._end_body()
        return body

    def next_body(self) -> bytes | Refusal | None:
        """Return some more of the body, None until more is fed.

        It may be empty: then something was read that is no part of the body itself. The body has ended once
        `in_body` is false.
        """
        pieces = bytearray()
        is_further = False
        try:
            for _ in range(_MAX_STEPS):
                if not self.in_body or len(pieces) >= MAX_PIECE:
                    break
                step = self._step()
                if step is None:
                    break
                is_further = True
                pieces += step
        except RefusedError as refused:
            return refused.refusal
        return bytes(pieces) if is_further else None

    def _end_body(self) -> None:
        self._part = _Part.HEAD
        self.in_body = False

    def _step(self) -> bytes | None:
        if self._part is _Part.LENGTH or self._part is _Part.CHUNK:
            return self._take()
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
            if self._part is _Part.LENGTH:
                self._end_body()
            else:
                self._part = _Part.CHUNK_END
        return taken

    def _chunk_end(self) -> bytes | None:
        end = bytes(self._buffer[:2])
        if end == b"\r\n":
            del self._buffer[:2]
            self._part = _Part.CHUNK_LINE
            return b""
        if b"\r\n".startswith(end):
            return None
        raise RefusedError("malformed-request", "A chunk does not end with CRLF.")

    def _chunk_line(self) -> bytes | None:
        line = self._line(MAX_CHUNK_LINE)
        if line is None:
            return None
        chunk = _CHUNK.fullmatch(line)
        if chunk is None:
            raise RefusedError("malformed-request", "A chunk does not begin with its size.")
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
            self._end_body()
            return b""
        self._left -= len(line) + 2
        if read_field(line)[0] in ROUTES_OR_FRAMES:
            raise RefusedError(
                "malformed-request", "A trailer may not say how the request is framed or routed."
            )
        return b""

    def _line(self, limit: int) -> bytes | None:
        end = self._buffer.find(b"\n", 0, max(limit, 0) + 2)
        if end < 0:
            if len(self._buffer) > limit + 1:
                raise RefusedError("malformed-request", "A line within the body is too long.")
            return None
        if end == 0 or self._buffer[end - 1] != ord("\r"):
            raise RefusedError("malformed-request", "A line within the body does not end with CRLF.")
        line = bytes(self._buffer[: end - 1])
        del self._buffer[: end + 1]
        return line
