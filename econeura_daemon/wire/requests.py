"""What goes out: heads that no value can break out of, and bodies framed as the head says. No I/O of its own."""

import re
from collections.abc import AsyncIterator, Iterable
from functools import cached_property

import attrs
import httpx

from econeura_daemon.wire.pool import Key

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110 9.2.1: asking twice does no harm."""

_DEFAULT_PORTS = {b"http": 80, b"https": 443}
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")  # RFC 9110 5.5
_IN_VALUES = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
_PLACE = re.compile(rb"[\x21-\x7e]+")


@attrs.frozen(eq=False)
class Target:
    """Where a request goes."""

    tls: bool
    host: str
    port: int
    name: str | None = None
    """Whose certificate it must show, and what ``Host`` calls it; None: ``host`` itself."""

    @cached_property
    def authority(self) -> bytes:
        """The value of ``Host``."""
        name = self.name or self.host
        shown = f"[{name}]" if ":" in name else name
        default = _DEFAULT_PORTS[b"https" if self.tls else b"http"]
        return (shown if self.port == default else f"{shown}:{self.port}").encode("ascii")

    @classmethod
    def of(cls, url: httpx.URL) -> "Target":
        """Read a URL. Raises `httpx.UnsupportedProtocol`."""
        scheme = url.raw_scheme
        if scheme not in _DEFAULT_PORTS:
            raise httpx.UnsupportedProtocol(f"expected http or https, got {url.scheme!r}")
        return cls(scheme == b"https", url.raw_host.decode("ascii"), url.port or _DEFAULT_PORTS[scheme])

    def key(self, trust: object) -> Key:
        """Return whose connections may be shared: the trust class stands last."""
        return (self.tls, self.host, self.port, self.name if self.tls else None, trust)


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write headers as lines. Raises `httpx.LocalProtocolError` for what would not stay within its line."""
    lines = []
    for pair in headers:
        if pair[0] not in _names:
            _check_name(pair[0])
        lines.append(b"%b: %b\r\n" % pair)
    text = b"".join(lines)
    # All values at once: without what a value may hold, the ends of the lines are left, and nothing else.
    if text.translate(None, _IN_VALUES) != b"\r\n" * len(lines):
        name = next(line.partition(b":")[0] for line in lines if not _is_one_line(line))
        raise httpx.LocalProtocolError(f"the request cannot be sent: the header {name!r} is not valid")
    return text


_names: set[bytes] = set()
_MEMORY = 512
"""Names of headers that are remembered to be valid."""


def _check_name(name: bytes) -> None:
    if _TOKEN.fullmatch(name) is None:
        raise httpx.LocalProtocolError(f"the request cannot be sent: the header {name!r} is not valid")
    if len(_names) >= _MEMORY:
        _names.clear()
    _names.add(name)


def _is_one_line(line: bytes) -> bool:
    return _VALUE.fullmatch(line[:-2]) is not None


def request_line(method: bytes, place: bytes) -> bytes:
    """Write a head's first line. Raises `httpx.LocalProtocolError`."""
    if _TOKEN.fullmatch(method) is None or _PLACE.fullmatch(place) is None:
        raise httpx.LocalProtocolError(f"the request cannot be sent: {method!r} {place!r} is not valid")
    return b"%b %b HTTP/1.1\r\n" % (method, place)


class Body:
    """A request's body, piece by piece, framed as its head promised."""

    def __init__(
        self, source: httpx.AsyncByteStream, length: int | None, *, is_resumable: bool = False
    ) -> None:
        """``is_resumable``: what waits for the next piece may be cancelled, and asked again; no generator may."""
        self.is_resumable = is_resumable
        self._source = source
        self._parts: AsyncIterator[bytes] | None = None
        self._length = length
        self._left = length or 0
        self._ended = False
        self.begun = False
        """Something was taken of it, so it cannot be sent again."""

    @property
    def is_out(self) -> bool:
        """Whether all of it was given out by `next`."""
        return self._ended or (self._length is not None and not self._left)

    async def next(self) -> bytes:
        """Return the next bytes to send, nothing at the end. Raises what the source raises, and
        `httpx.LocalProtocolError` where it holds other than its length.
        """
        if self._ended:
            return b""
        self.begun = True
        if self._parts is None:
            self._parts = aiter(self._source)
        async for part in self._parts:
            if not part:
                continue
            if self._length is None:
                return b"%x\r\n%b\r\n" % (len(part), part)
            self._left -= len(part)
            if self._left < 0:
                raise httpx.LocalProtocolError(
                    "the request cannot be sent: its body is longer than announced"
                )
            return part
        self._ended = True
        if self._left:
            raise httpx.LocalProtocolError("the request cannot be sent: its body is shorter than announced")
        return b"0\r\n\r\n" if self._length is None else b""

    async def aclose(self) -> None:
        """Let go of the source, also in the middle."""
        close = getattr(self._parts, "aclose", None)
        if close is not None:
            await close()


def framing(request: httpx.Request) -> tuple[bytes, Body | None]:
    """Return the body that is at hand, and the one that has yet to come.

    httpx writes ``Content-Length`` or ``Transfer-Encoding`` when it builds a request; they are obeyed. Raises
    `httpx.LocalProtocolError` where there is none for a body, or no number, or both.
    """
    stream = request.stream
    length, chunked = request.headers.get("content-length"), "transfer-encoding" in request.headers
    if length is not None and (chunked or not (length.isascii() and length.isdigit())):
        raise httpx.LocalProtocolError(
            "the request cannot be sent: its length is given twice, or is no number"
        )
    if chunked and request.headers["transfer-encoding"].lower() != "chunked":
        raise httpx.LocalProtocolError("the request cannot be sent: its transfer encoding is not chunked")
    if isinstance(stream, httpx.SyncByteStream):
        content = b"".join(stream)
        if chunked:
            return (b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\n\r\n"), None
        if len(content) != int(length or 0):
            raise httpx.LocalProtocolError(
                f"the request cannot be sent: its body has {len(content)} bytes, its head says {length or 0}"
            )
        return content, None
    return b"", Body(stream, None if chunked else int(length or 0))
