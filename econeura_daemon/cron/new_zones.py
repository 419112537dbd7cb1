"""New time zone data: noticed, and the jobs' next ticks computed by it.

Governments change clocks at short notice, and distributions bring that as an update of files which running programs
have read already. It is looked for at the start (against what the store knows of the last data that its jobs were
scheduled by), every hour, and when the daemon is told to reload.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.cron import zones
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.rescheduling import reschedule_all
from econeura_daemon.storage import Connection, Store
from econeura_daemon.storage.facts import fact, write_fact
from econeura_daemon.storage.holding import while_the_store_is_away

EVERY = 3600.0
"""Seconds between two looks."""
PAUSE = 5.0
"""Seconds after which a store that refused is asked again."""
_MARK = "cron.zones"

_log = logging.getLogger(__name__)


async def data_mark() -> str:
    """Return `zones.data_mark`; a disk may take its time."""
    return await trio.to_thread.run_sync(zones.data_mark)


class NewZones:
    """Keeps the jobs' next ticks by the time zone data that the machine has."""

    def __init__(
        self,
        *,
        store: Store,
        reports: Reports,
        clock: Clock,
        wake: Callable[[], object],
        mark: Callable[[], Awaitable[str]],
    ) -> None:
        self._mark_now = mark
        self._store = store
        self._reports = reports
        self._clock = clock
        self._wake = wake
        self._asked = trio.Event()
        self._mark: str | None = None
        """Of the data by which this process goes."""

    def look(self) -> None:
        """Look now. Call on the event loop."""
        self._asked.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look for new data, for ever."""
        task_status.started()
        while True:
            self._asked = trio.Event()
            is_done = False
            with while_the_store_is_away("compute the jobs' next ticks by new time zone data"):
                await self.take_over()
                is_done = True
            with trio.move_on_after(EVERY if is_done else PAUSE):
                await self._asked.wait()

    async def take_over(self) -> None:
        """Compute every job's next tick anew if the data is another one than before. Raises `StoreError`."""
        mark = await self._mark_now()
        if self._mark is None:
            before = await self._store.read(partial(fact, key=_MARK))
        elif mark != self._mark:
            zones.use_new_data()
            before = self._mark
        else:
            return
        if before != mark:
            if before is not None:
                now = to_ms(self._clock.now())
                changed = await reschedule_all(self._store, self._reports, now)
                _log.warning("there is new time zone data", extra={"jobs_with_another_next_tick": changed})
                self._wake()
            await self._store.transact(partial(self._note, mark))
        self._mark = mark

    @staticmethod
    def _note(mark: str, connection: Connection) -> None:
        write_fact(connection, _MARK, mark)
