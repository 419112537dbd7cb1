"""Idempotency keys: the same request twice does its deed once and gives the same answer twice.

The rules (docs/http-api.md): a key belongs to a token and a route and counts for 24 hours. The same key with
the same body gets the first answer again; with another body 422; while the first is under way 409. What is
kept is written in the transaction of the deed itself: no deed without its answer, no answer without its deed.
Only a deed that was done is kept, as Stripe does it for what it refused before it began
(https://docs.stripe.com/api/idempotent_requests): a 4xx or 5xx may be tried again under the same key.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Generic, TypeVar

import attrs

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import ConflictError, EconeuraError, InvalidInputError
from econeura_daemon.storage import Connection, Store
from econeura_daemon.storage.idempotency import KeyTakenError, Remembered, find, remember

T = TypeVar("T")
Also = Callable[[Connection, T], None]
"""What a feature runs inside the transaction of its deed, on the deed's result."""

LIFETIME_MS = 24 * 3600 * 1000
MAX_KEPT_BYTES = 64 * 1024

_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class IdempotencyMismatchError(EconeuraError):
    """The key was used with another body."""


class IdempotencyInFlightError(EconeuraError):
    """The first request with this key is still under way."""


@attrs.frozen
class Deed(Generic[T]):
    """How a deed is answered: from bytes that are kept, so that a repeat cannot differ from the first."""

    status: Callable[[T], int]
    keep: Callable[[T], bytes]
    """What is written down of the result."""
    show: Callable[[bytes], bytes]
    """The answer's ``data`` as JSON, from what was written down."""
    tell: Callable[[T], bytes] | None = None
    """The same from the result itself, where that is cheaper."""
    limit: int | None = MAX_KEPT_BYTES
    """Beyond it nothing is kept but that the key was used."""


@attrs.frozen
class Answer:
    """What a deed came to (``data`` as JSON), and when it was done (milliseconds since the epoch)."""

    data: bytes = attrs.field(repr=False)
    status: int
    at: int
    replayed: bool = False


@attrs.frozen
class Key:
    """One request's key, with the scope in which it is unique and the hash of the body."""

    scope: str
    text: str
    body_hash: bytes


def read_key(values: list[str], *, principal: str, route: str, body: bytes) -> Key | None:
    """Read the ``Idempotency-Key`` headers of a request; None if there is none.

    Raises `InvalidInputError` for more than one, or one that is not 1 to 255 printable ASCII characters.
    """
    if not values:
        return None
    if len(values) > 1 or _KEY.fullmatch(values[0]) is None:
        raise InvalidInputError.at(
            "Idempotency-Key", "expected one header of 1 to 255 printable ASCII characters"
        )
    return Key(scope=f"{principal} {route}", text=values[0], body_hash=hashlib.sha256(body).digest())


class IdempotencyKeys:
    """Does deeds once a key. Knows which keys this process has under way; the store knows the rest."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._under_way: set[tuple[str, str]] = set()

    async def once(
        self, key: Key | None, deed: Deed[T], act: Callable[[Also[T] | None], Awaitable[T]]
    ) -> Answer:
        """Act, or give the first answer to ``key`` again.

        ``act`` does the deed in one transaction and runs what it is handed inside that. Raises
        `IdempotencyMismatchError`, `IdempotencyInFlightError`, and what ``act`` raises.
        """
        now = to_ms(self._clock.now())
        if key is None:
            return _first(deed, await act(None), now)
        since = now - LIFETIME_MS

        def keep(connection: Connection, result: T) -> None:
            kept = deed.keep(result)
            answer = Remembered(
                body_hash=key.body_hash,
                created_at=now,
                status=deed.status(result),
                response=kept if deed.limit is None or len(kept) <= deed.limit else b"",
            )
            remember(connection, key.scope, key.text, answer, since=since)

        with self._under_way_while(key):
            first = await self._store.read(
                lambda connection: find(connection, key.scope, key.text, since=since)
            )
            if first is None:
                try:
                    return _first(deed, await act(keep), now)
                except KeyTakenError as error:
                    first = error.first
        return _again(first, key, deed)

    @contextmanager
    def _under_way_while(self, key: Key) -> Generator[None]:
        name = (key.scope, key.text)
        if name in self._under_way:
            raise IdempotencyInFlightError("The first request with this Idempotency-Key is still under way")
        self._under_way.add(name)
        try:
            yield
        finally:
            self._under_way.discard(name)


def _first(deed: Deed[T], result: T, at: int) -> Answer:
    data = deed.show(deed.keep(result)) if deed.tell is None else deed.tell(result)
    return Answer(data, deed.status(result), at)


def _again(first: Remembered, key: Key, deed: Deed[T]) -> Answer:
    if first.body_hash != key.body_hash:
        raise IdempotencyMismatchError("This Idempotency-Key was used before, with another body")
    if not first.response:
        raise ConflictError("The request was carried out before, but its answer was too large to be kept")
    return Answer(deed.show(first.response), first.status, first.created_at, replayed=True)
