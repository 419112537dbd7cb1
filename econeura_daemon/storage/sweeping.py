"""Forgetting what is old: looked for beside the writer, deleted in small transactions with pauses between."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import attrs
import trio

from econeura_daemon.storage.connection import Connection
from econeura_daemon.storage.model import Store, Work

BATCH = 200
"""Rows that are looked at, and deleted, at once: some 10 ms of the writer's time."""

Row = TypeVar("Row")
Position = TypeVar("Position")


@attrs.frozen
class Found(Generic[Row, Position]):
    """What one look brought."""

    old: Sequence[Row]
    """What may be deleted."""
    next: Position | None
    """Behind what the next look begins; None: nothing further is old."""


async def sweep(
    store: Store,
    first: Position,
    look: Callable[[Connection, Position], Found[Row, Position]],
    forget: Callable[[Connection, Sequence[Row]], int],
) -> int:
    """Delete what ``look`` finds from behind ``first`` on; return how much ``forget`` says it was.

    What has become needed since it was looked at is for ``forget`` to leave alone. It rests as long as it works, so
    others have half of the writer's time at least.
    """
    count = 0
    position: Position | None = first
    while position is not None:
        found = await store.read(partial(_look, look, position))
        if found.old:
            count += await _politely(store, partial(_forget, forget, found.old))
        position = found.next
    return count


async def sweep_oldest(store: Store, forget: Work[int]) -> int:
    """Delete for as long as ``forget``, which deletes some of the oldest, finds any; return how much it was.

    For what needs no look beforehand, since all that is old may go. It rests as `sweep` does.
    """
    count = 0
    while deleted := await _politely(store, forget):
        count += deleted
    return count


async def _politely(store: Store, work: Work[int]) -> int:
    began = trio.current_time()
    count = await store.transact(work)
    await trio.sleep(trio.current_time() - began)
    return count


def _look(
    look: Callable[[Connection, Position], Found[Row, Position]], after: Position, connection: Connection
) -> Found[Row, Position]:
    return look(connection, after)


def _forget(
    forget: Callable[[Connection, Sequence[Row]], int], old: Sequence[Row], connection: Connection
) -> int:
    return forget(connection, old)
