"""Lists in pages: opaque cursors, signed, so that one that was not issued here is told from one that was."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from random import Random
from typing import TypeVar

import attrs

from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.core.jsons import dumps, loads
from econeura_daemon.storage import Store
from econeura_daemon.storage.facts import fact, settle_fact

Position = TypeVar("Position", int, str)

DEFAULT_LIMIT = 50
MAX_LIMIT = 250
MAX_CURSOR_LENGTH = 1024

_KEY = "page_cursor_key"
_KEY_BYTES = 32
_TAG_BYTES = 16  # 128 bits: a guess is hopeless, and the cursor stays short (RFC 2104, section 5)


@attrs.frozen
class PageOf:
    """A cursor's list: the route and the filters. A cursor of one list is none of another."""

    route: str
    filters: tuple[tuple[str, str], ...] = ()

    def binding(self) -> bytes:
        """Return the bytes that stand for the list."""
        return dumps([self.route, sorted(self.filters)])


class Cursors:
    """Issues page cursors and reads them back; the key is the store's, so they outlive a restart."""

    def __init__(self, store: Store, rng: Random) -> None:
        self._store = store
        self._rng = rng
        self._key: bytes | None = None

    async def issue(self, page: PageOf, position: int | str) -> str:
        """Return the cursor that continues the list behind ``position``."""
        payload = dumps(position)
        return urlsafe_b64encode(await self._tag(page, payload) + payload).rstrip(b"=").decode()

    async def read(self, page: PageOf, cursor: str | None, kind: type[Position]) -> Position | None:
        """Return the position behind which the list continues, None for its first page.

        Raises `InvalidInputError` for a cursor that was not issued here, or not for this list.
        """
        if cursor is None:
            return None
        try:
            raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except ValueError:
            raise _foreign() from None
        tag, payload = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if len(cursor) > MAX_CURSOR_LENGTH or not hmac.compare_digest(tag, await self._tag(page, payload)):
            raise _foreign()
        position = loads(payload)
        if not isinstance(position, kind):
            raise _foreign()
        return position

    async def _tag(self, page: PageOf, payload: bytes) -> bytes:
        if self._key is None:
            self._key = await self._stored_key()
        return hmac.digest(self._key, page.binding() + b"\n" + payload, "sha256")[:_TAG_BYTES]

    async def _stored_key(self) -> bytes:
        kept = await self._store.read(lambda connection: fact(connection, _KEY))
        if kept is None:
            fresh = self._rng.randbytes(_KEY_BYTES).hex()
            kept = await self._store.transact(lambda connection: settle_fact(connection, _KEY, fresh))
        return bytes.fromhex(kept)


def _foreign() -> InvalidInputError:
    return InvalidInputError.at(
        "?cursor",
        "this cursor was not issued here, or for another list; take nextCursor of the page before, unchanged",
    )
