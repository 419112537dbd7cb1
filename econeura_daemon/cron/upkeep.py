"""What keeps the runs' picture true: leases are prolonged, what died is found, history is forgotten in time."""

import logging
from collections.abc import Callable
from functools import partial

import trio

from econeura_daemon.core.clock import Clock, from_ms, to_ms
from econeura_daemon.core.ids import first_id
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.running import Running
from econeura_daemon.cron.store import runs as sql
from econeura_daemon.storage import Store
from econeura_daemon.storage.holding import (
    Suspects,
    hold_leases,
    rescan_pause,
    while_the_store_is_away,
)
from econeura_daemon.storage.model import Claimant
from econeura_daemon.storage.sweeping import BATCH, sweep_oldest

log = logging.getLogger(__name__)


class Upkeep:
    """Looks after the claims of one daemon."""

    def __init__(
        self,
        *,
        store: Store,
        reports: Reports,
        claimant: Claimant,
        clock: Clock,
        running: Running,
        wake: Callable[[], object],
    ) -> None:
        self._store = store
        self._reports = reports
        self._claimant = claimant
        self._clock = clock
        self._running = running
        self._wake = wake
        self._suspects = Suspects()

    async def rescan_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Find, for ever, what others left: lapsed claims, claims that nobody works on."""
        task_status.started()
        while True:
            await trio.sleep(rescan_pause(self._claimant))
            with while_the_store_is_away("look for what others left"):
                await self.recover()
                await self._free_abandoned()

    async def lease_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Prolong the leases of what is under way, three times a lease; without leases only sleep."""
        task_status.started()
        await hold_leases(self._store, self._claimant, lambda: self._running.under_way, sql.renew)

    async def recover(self) -> None:
        """Free what died with its claimant: earlier runs of this daemon, lapsed leases of others."""
        work = partial(
            sql.recover, now=to_ms(self._clock.now()), reports=self._reports, claimant=self._claimant
        )
        if freed := await self._store.transact(work):
            log.warning("freed runs whose daemon died", extra={"runs": len(freed)})
            self._wake()

    async def forget(self, history_ms: int) -> int:
        """Delete ended runs whose ticks are older than ``history_ms``; return how many were."""
        before = first_id("run", from_ms(to_ms(self._clock.now()) - history_ms))
        return await sweep_oldest(self._store, partial(sql.forget, before=before, most=BATCH))

    async def _free_abandoned(self) -> None:
        """Free claims of this daemon that no task works on: what a bug or a lost commit left behind."""
        claimed = await self._store.read(partial(sql.claimed_by, claimant=self._claimant))
        under_way = (one.run.id for one in self._running.under_way)
        if abandoned := self._suspects.abandoned(claimed, under_way):
            log.error("freed runs that nobody worked on", extra={"runs": abandoned[:10]})
            now = to_ms(self._clock.now())
            await self._store.transact(
                partial(sql.free, run_ids=abandoned, now=now, reports=self._reports, claimant=self._claimant)
            )
            self._wake()
