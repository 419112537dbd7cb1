"""Short answers are taken whole before anybody is told of them.

Until its head is passed on, an answer that breaks off is an attempt that failed, and another one may follow; after it,
the caller has half an answer. And an instance is not kept waiting by a caller who reads slowly.
"""

from collections.abc import Sequence

from econeura_daemon.client.calls import Call, Header, Sent
from econeura_daemon.client.steps import Send
from econeura_daemon.wire import Target

SHORT = 64 * 1024
"""Bytes: of an answer that says it has no more than these, none is passed on until all are here."""


def whole(send: Send) -> Send:
    """Return a way to make attempts whose answers, if they say that they are short, cannot fail any more."""

    async def taken(call: Call, target: Target) -> Sent:
        sent = await send(call, target)
        return sent if sent.is_whole or not _says_it_is_short(sent) else await _take(sent)

    return taken


def _says_it_is_short(sent: Sent) -> bool:
    for name, value in sent.headers:
        if len(name) == 14 and name.lower() == b"content-length":
            return len(value) < 6 and value.isdigit() and int(value) <= SHORT
    return False


async def _take(sent: Sent) -> Sent:
    parts = []
    try:
        while part := await sent.more():
            parts.append(part)
    finally:
        sent.end()
    return _Taken(sent.status, sent.headers, b"".join(parts))


class _Taken:
    """An answer that is here."""

    is_whole = True

    def __init__(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    async def more(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def end(self) -> None:
        """There is nothing to end."""
