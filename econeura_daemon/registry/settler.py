"""What is found out on the loop goes into the store: one transaction for all that has piled up meanwhile."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs
import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import StoreError
from econeura_daemon.registry.book import Book
from econeura_daemon.storage import Connection, Store

BATCH = 200
"""Instances in one transaction: others must not wait for long behind a mass expiry."""
PAUSE = 1.0
"""Seconds before the store is asked again after it refused."""

_log = logging.getLogger(__name__)


@attrs.define
class _Wish:
    """What is to be written of one registration."""

    generation: int
    changes: dict[str, Any] = attrs.field(factory=dict)
    """Fields of `Health`."""
    removal: str | None = None
    """Why it is to be removed if it still is unhealthy then."""


class Settler:
    """Collects and writes. What is wished of a registration that is gone by then is forgotten."""

    def __init__(self, store: Store, book: Book, clock: Clock) -> None:
        self._store = store
        self._book = book
        self._clock = clock
        self._wishes: dict[str, _Wish] = {}
        self._wished = trio.Event()

    def __repr__(self) -> str:
        return f"<Settler: {len(self._wishes)} wishes>"

    @property
    def waiting(self) -> int:
        """How many instances wait to be written."""
        return len(self._wishes)

    def want(self, instance_id: str, generation: int, **changes: Any) -> None:
        """Have fields of an instance's `Health` changed; a later word on the same field counts."""
        self._wish(instance_id, generation).changes.update(changes)

    def want_removed(self, instance_id: str, generation: int, reason: str) -> None:
        """Have an instance removed if it is still unhealthy then."""
        self._wish(instance_id, generation).removal = reason

    def _wish(self, instance_id: str, generation: int) -> _Wish:
        wish = self._wishes.get(instance_id)
        if wish is None or wish.generation < generation:
            wish = self._wishes[instance_id] = _Wish(generation)
        self._wished.set()
        return wish if wish.generation == generation else _Wish(generation)  # an earlier one's goes nowhere

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Write for ever."""
        task_status.started()
        while True:
            await self._wished.wait()
            if not await self.settle():
                await trio.sleep(PAUSE)

    async def settle(self) -> bool:
        """Write what is wished now, in batches; return whether all of it was written."""
        while self._wishes:
            batch = dict(list(self._wishes.items())[:BATCH])
            for key in batch:
                del self._wishes[key]
            try:
                await self._store.transact(partial(self._write, batch))
            except StoreError as error:
                _log.warning("the registry could not be written: %s", error)
                self._take_back(batch)
                return False
            except BaseException:
                self._take_back(
                    batch
                )  # cancelled: whoever runs next writes it once more, which changes nothing
                raise
        self._wished = trio.Event()
        return True

    def _take_back(self, batch: Mapping[str, _Wish]) -> None:
        for key, wish in batch.items():
            later = self._wishes.get(key)
            if later is None:
                self._wishes[key] = wish
            elif later.generation == wish.generation:
                later.changes = {**wish.changes, **later.changes}
                later.removal = later.removal or wish.removal
        self._wished.set()

    def _write(self, batch: Mapping[str, _Wish], connection: Connection) -> None:
        now = to_ms(self._clock.now())
        for key, wish in batch.items():
            if wish.changes:
                self._book.set_health(connection, key, wish.generation, wish.changes, now)
            if wish.removal is not None:
                self._book.remove_unhealthy(connection, key, wish.generation, wish.removal, now)
