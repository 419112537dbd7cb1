"""HTTP/1.1 answers out of bytes: no I/O, nothing awaits. The parsing itself is llhttp's, by httptools.

llhttp says what a byte means; what an answer as a whole may be is decided here: which have no body, when one
that has no length ends, what is an interim answer, and what is nobody's answer at all. Where RFC 9112 lets a
client choose between repairing and refusing, it is refused: a peer that frames an answer in two ways is not
one to share a connection with. Empty lines between answers are read over (RFC 9112 2.2), as llhttp does.
"""

from collections import deque

import httptools
from httptools.parser.errors import HttpParserError

MAX_HEAD_BYTES = 64 * 1024
"""Of a head with the interim answers before it, of the trailers, of what stands between two parts of a body."""


class AnswerParser:
    """Takes the bytes of one connection's answers, one answer after `begin`.

    `has_head`: ``status`` and ``headers`` stand. `complete`: the last of ``parts`` stands too. `surplus`: more
    came than was asked for. `reusable`: the connection may carry another request, as far as the answer tells.
    `flaw`: in words why what came is no answer, or none after what stands already; nothing more is read then.
    """

    __slots__ = (
        "_barren",
        "_bodyless",
        "_close",
        "_framed",
        "_head_only",
        "_parser",
        "_started",
        "complete",
        "flaw",
        "has_head",
        "headers",
        "parts",
        "reusable",
        "status",
        "surplus",
    )

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = None
        self.begin()

    def begin(self, *, head_only: bool = False) -> None:
        """Make ready for the next answer; ``head_only``: to a HEAD, which has no body whatever it says."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: deque[bytes] = deque()
        self.has_head = self.complete = self.surplus = self.reusable = False
        self._head_only = head_only
        self.flaw: str | None = None
        self._barren = 0
        self._started = self._framed = self._close = self._bodyless = False
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take what came."""
        assert self._parser is not None
        self._started = True
        known = len(self.parts)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, httptools.HttpParserUpgrade) as error:
            self._parser = None
            if self.complete:
                self.surplus = True
            elif self.flaw is None:
                self.flaw = str(error).lower()
        if self.complete:
            if self._bodyless and not data.endswith(b"\n"):
                self.surplus = True  # llhttp took it for the size of a chunk of which it has seen no end
            self.reusable = self.reusable and not self.surplus
        elif len(self.parts) == known:
            self._barren += len(data)
            if self._barren > MAX_HEAD_BYTES:
                self.flaw = f"its head has more than {MAX_HEAD_BYTES} bytes"
        else:
            self._barren = 0

    @property
    def ends_with_connection(self) -> bool:
        """Its head says of no other end (RFC 9112 6.3)."""
        return self.has_head and not self._framed

    def end(self, *, cut: bool = False) -> str | None:
        """Take the end of the connection; return what is missing, nothing where the answer ends with it.

        ``cut``: TLS did not say that it was to end, so that anybody on the way may have ended it (RFC 9112 9.8).
        """
        if self.complete:
            return None
        if self.ends_with_connection:
            self.complete = not cut
            return (
                "the server ended its answer without TLS's close_notify: it may have been cut"
                if cut
                else None
            )
        if self._started:
            return "the server closed the connection before the answer was complete"
        return "the server closed the connection without sending a response"

    # What llhttp calls.

    def on_message_begin(self) -> None:
        if self.complete:
            self.surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:  # trailers are read over, but no answer is framed twice (RFC 9110 6.5.1)
            if name.lower() == b"transfer-encoding":  # llhttp refuses the length
                self.flaw = "its trailers say how it is framed"
            return
        if value[-1:] in {b" ", b"\t"}:
            value = value.rstrip(b" \t")
        self.headers.append((name, value))
        length = len(name)
        if length == 14:
            if name.lower() == b"content-length":
                self._framed = True
        elif length == 10:
            if name.lower() == b"connection" and b"close" in value.lower():
                self._close = True
        elif length == 17 and name.lower() == b"transfer-encoding":
            if self._framed or value.lower() != b"chunked":
                self.flaw = "its transfer encoding is not chunked, or not only"
            self._framed = True

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        status, version = parser.get_status_code(), parser.get_http_version()
        if self.complete or self.flaw is not None:
            return
        if version not in {"1.1", "1.0"}:
            self.flaw = f"its version is {version}"
        elif status < 200:
            self._interim(status)
        else:
            self.status = status
            self.has_head = True
            if status in {204, 304} or self._head_only:
                self.complete = self._bodyless = True
                framed = True
            else:
                framed = self._framed
            self.reusable = framed and not self._close and version == "1.1"

    def on_body(self, body: bytes) -> None:
        if self.complete:
            self.surplus = True
        else:
            self.parts.append(body)

    def on_chunk_header(self) -> None:
        if self.complete:
            self.surplus = True

    def on_message_complete(self) -> None:
        if self.has_head and self.flaw is None:
            self.complete = True
            self._bodyless = False

    # Decisions.

    def rewind(self) -> None:
        """Let go of what llhttp believes where it may wait for a body that never comes."""
        if self._bodyless:
            self._parser = None

    def _interim(self, status: int) -> None:
        if status == 101 or status < 100:
            self.flaw = f"its status is {status}, which nobody asked for"
        elif self._framed:
            self.flaw = f"an interim answer ({status}) has no body, this one says it has"  # RFC 9110 8.6
        self.headers = []
        self._close = False
