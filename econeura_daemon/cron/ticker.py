"""The ticker: sleeps until something is due, takes it, begins it; again for ever.

The one heap of all jobs is the database's index by due instant: 100,000 jobs cost this process nothing, are there as
soon as it starts, and what other daemons change in a shared store is in it. A look is one transaction.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import StoreError
from econeura_daemon.cron.planning import Watch
from econeura_daemon.cron.rescheduling import reschedule_all
from econeura_daemon.cron.running import Running
from econeura_daemon.cron.store.looks import Look, Taking
from econeura_daemon.cron.store.ticks import Taker
from econeura_daemon.storage import Connection, Store
from econeura_daemon.storage.model import Claimant

log = logging.getLogger(__name__)

TOPIC = "cron"
"""Announced by every change of a job that may make it due earlier."""

LONGEST_SLEEP = 60.0
"""Seconds after which the loop looks at the clock again: a step of the wall clock is noticed by then."""
LEAST_PAUSE = 0.01
"""Seconds between the beginnings of two looks: jobs that are spread over a second by their jitter are taken some at a
time. A look costs three times what a tick in it does."""
BATCH = 200
"""Jobs whose ticks are taken in one transaction: enough to make its commit cheap, few enough to let others between."""
STORE_PAUSE = 1.0
"""Seconds to wait after the store refused a look."""
HELD_PAUSE = 0.05
"""Seconds to wait where what is due is held by another daemon's transaction."""
CLOSING_SECONDS = 5.0


class Observer(Protocol):
    """What the ticker tells, for the metrics."""

    def looked(self, look: Look) -> None:
        """One look at the store was committed."""
        ...


class Ticker:
    """Ticks. Made by `open_cron`."""

    def __init__(
        self,
        *,
        store: Store,
        taker: Taker,
        running: Running,
        claimant: Claimant,
        clock: Clock,
        keep_runs: Callable[[], int],
        observer: Observer,
    ) -> None:
        self._store = store
        self._taker = taker
        self._running = running
        self._claimant = claimant
        self._clock = clock
        self._keep_runs = keep_runs
        self._observer = observer
        self._watch: Watch | None = None
        self._wake = trio.Event()
        self._stopped = False
        self._looking = trio.Lock()
        self.behind_ms = 0
        """By how much the last look was late."""

    def __repr__(self) -> str:
        return f"<Ticker {'stopped' if self._stopped else 'ticking'}, {self._running!r}>"

    def wake(self) -> None:
        """Look for what is due now. Call on the event loop."""
        self._wake.set()

    def stop(self) -> None:
        """Take nothing more; runs under way go on. Safe from any thread but the look that is being committed."""
        self._stopped = True

    async def settled(self) -> None:
        """Wait, some seconds at most, until the last look is committed and what it took has begun."""
        with trio.move_on_after(CLOSING_SECONDS, shield=True):
            async with self._looking:
                pass

    async def tick_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take what is due, for ever."""
        task_status.started()
        while True:
            self._wake = trio.Event()
            if self._stopped:
                await trio.sleep_forever()
            began = trio.current_time()
            try:
                async with self._looking:
                    look = await self._look()
            except StoreError as error:
                log.warning("the store refused a look at what is due: %s", error)
                await trio.sleep(STORE_PAUSE)
                continue
            with trio.move_on_after(self._pause(look)):
                await self._wake.wait()
            await trio.sleep_until(began + LEAST_PAUSE)

    async def changes_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wake the ticker whenever a job was changed, here or by another daemon."""
        with self._store.watch(TOPIC) as watch:
            task_status.started()
            while True:
                await watch.wait()
                self.wake()

    async def _look(self) -> Look:
        asked = Taking(
            claimant=self._claimant,
            now=to_ms(self._clock.now()),
            monotonic_ms=trio.current_time() * 1000,
            watch=self._watch,
            room=self._running.room,
            batch=BATCH,
            keep_runs=self._keep_runs(),
        )

        def work(connection: Connection) -> Look:
            look = self._taker.look(connection, asked)
            connection.after_commit(partial(self._taken, look))
            return look

        look = await self._store.transact(work)
        if look.set_back:
            log.warning("the wall clock was set back; the jobs' next ticks are computed anew")
            await reschedule_all(self._store, self._taker.reports, look.now)
            self.wake()
        return look

    def _taken(self, look: Look) -> None:
        self._watch = look.watch
        self.behind_ms = look.late_ms or 0
        self._observer.looked(look)
        self._running.begin(look.begun)

    def _pause(self, look: Look) -> float:
        """Return how many seconds to sleep after a look."""
        if look.is_full and self._running.room > 0:  # runs ended while it was committed, and woke nobody
            return 0.0
        if look.next_at is None:
            return LONGEST_SLEEP
        if look.next_at > look.now:
            return min((look.next_at - look.now) / 1000, LONGEST_SLEEP)
        return 0.0 if look.progressed else HELD_PAUSE
