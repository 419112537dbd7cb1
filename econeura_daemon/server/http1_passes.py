"""Hot requests that the rules have let pass before, by the very bytes of their heads.

Host, Origin, bounds, and access without a token are judged by the head alone, together with where it came from;
so is the route. Clients repeat their heads word for word, so the judgement is kept. Heads that bear a token, a
cookie or an id of their own are never in here: `http1_heads` does not remember them, and a token is judged anew
each time.
"""

import attrs

from econeura_daemon.server.context import Peer, Principal
from econeura_daemon.server.http1_heads import Head
from econeura_daemon.server.requests import HotRoute

_HEADS = 256
"""Heads that are kept for one kind of peer; bodies of many lengths make many."""
_KINDS = 16
"""Kinds of peers: a machine has few addresses, but 127.0.0.0/8 has many."""


@attrs.frozen
class Pass:
    """A head that was let pass, to where, and as whose."""

    head: Head
    route: HotRoute
    principal: Principal


class Passes:
    """Those of one kind of peer, by the head without the empty line at its end."""

    __slots__ = ("_by_text",)

    def __init__(self) -> None:
        self._by_text: dict[bytes, Pass] = {}

    def __len__(self) -> int:
        return len(self._by_text)

    def find(self, data: bytes) -> tuple[Pass, bytes] | None:
        """Return pass and body if ``data`` is one whole request that has one."""
        text, end, body = data.partition(b"\r\n\r\n")
        known = self._by_text.get(text)
        if known is None or not end or known.head.length != len(body):
            return None
        return known, body

    def add(self, head: Head, route: HotRoute, principal: Principal) -> None:
        """Keep that the rules let a head pass, unless they asked for more than the head."""
        if not head.text or b"authorization" in head.first:
            return
        if len(self._by_text) >= _HEADS:
            self._by_text.clear()
        self._by_text[head.text] = Pass(head, route, principal)


class AllPasses:
    """Those of all kinds of peers."""

    def __init__(self) -> None:
        self._by_kind: dict[tuple[bool, bool, str | None], Passes] = {}

    def __len__(self) -> int:
        return len(self._by_kind)

    def of(self, peer: Peer, address: str | None) -> Passes:
        """Return those of peers like this one who connected to ``address``."""
        kind = peer.is_local, peer.is_unix, address
        passes = self._by_kind.get(kind)
        if passes is None:
            if len(self._by_kind) >= _KINDS:
                self._by_kind.clear()
            passes = self._by_kind[kind] = Passes()
        return passes
