"""Events of those who cannot wait: a bounded queue, and one task that writes what has piled up."""

import logging
from collections import deque
from random import Random
from typing import Any

import trio

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.errors import StoreError
from econeura_daemon.core.ids import new_id
from econeura_daemon.events.log import EventLog
from econeura_daemon.events.model import Event
from econeura_daemon.storage import Connection, Store

log = logging.getLogger(__name__)

SOURCE = "econeura-daemon"
CAPACITY = 1000
_AT_ONCE = 100
_PAUSE = 1.0
"""Seconds before a store that failed is tried again."""
_LAST_WRITES = 5.0


class QueuedEvents:
    """Takes events without waiting; beyond `CAPACITY` they are dropped, counted, and it is said."""

    def __init__(self, store: Store, events: EventLog, clock: Clock, rng: Random) -> None:
        self._store = store
        self._events = events
        self._clock = clock
        self._rng = rng
        self._queue: deque[Event] = deque()
        self._wake = trio.Event()
        self.dropped = 0

    def __repr__(self) -> str:
        return f"<QueuedEvents: {len(self._queue)} wait, {self.dropped} dropped>"

    def put(self, event_type: str, data: dict[str, Any]) -> None:
        """Have an event of the daemon's own appended soon, on the event loop."""
        if len(self._queue) >= CAPACITY:
            self.dropped += 1
            if self.dropped == 1 or self.dropped % CAPACITY == 0:
                log.warning("%d events were dropped: %d wait to be stored", self.dropped, CAPACITY)
            return
        now = self._clock.now()
        self._queue.append(
            Event.make(
                id=new_id("evt", now, self._rng),
                type=event_type,
                data=data,
                source=SOURCE,
                now=now,
                given_id=True,  # appended a second time, after a cancellation, it is a duplicate and nothing new
            )
        )
        self._wake.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what comes, for ever; when cancelled, what is left, within `_LAST_WRITES` seconds."""
        task_status.started()
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                await self._write()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_WRITES):
                await self._write()

    async def _write(self) -> None:
        while self._queue:
            batch = [self._queue[place] for place in range(min(_AT_ONCE, len(self._queue)))]

            def append(connection: Connection, batch: list[Event] = batch) -> None:
                self._events.append_all(connection, batch)

            try:
                await self._store.transact(append)
            except StoreError as error:
                log.warning("%d events wait to be stored: %s", len(self._queue), error)
                await trio.sleep(_PAUSE)
                continue
            for _ in batch:
                self._queue.popleft()
