"""What keeps the runs' picture true: leases are prolonged, what died is found, history is forgotten in time."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

import trio

from econeura_daemon.core.clock import Clock, from_ms, to_ms
from econeura_daemon.core.errors import StoreError
from econeura_daemon.core.ids import first_id
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.running import Running
from econeura_daemon.cron.store import runs as sql
from econeura_daemon.storage import Store
from econeura_daemon.storage.model import Claimant

log = logging.getLogger(__name__)

SHARED_RESCAN = 2.0
"""Seconds between looks for what died with other daemons of a shared store."""
RESCAN = 60.0
"""Seconds between looks into a store of our own, for what a bug may have left behind."""
FORGET_BATCH = 500
"""Runs that are deleted in one transaction."""


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
        self._suspects: set[str] = set()

    async def rescan_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Find, for ever, what others left: lapsed claims, claims that nobody works on."""
        task_status.started()
        while True:
            await trio.sleep(SHARED_RESCAN if self._claimant.lease_ms is not None else RESCAN)
            with _while_the_store_is_away("look for what others left"):
                await self.recover()
                await self._free_abandoned()

    async def lease_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Prolong the leases of what is under way, three times a lease; without leases only sleep."""
        task_status.started()
        lease = self._claimant.lease_ms
        while lease is not None:
            await trio.sleep(lease / 3000)
            held = list(self._running.under_way)
            if held:
                with _while_the_store_is_away("prolong the leases"):
                    await self._store.transact(partial(sql.renew, held=held, claimant=self._claimant))
        await trio.sleep_forever()

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
        count = 0
        while deleted := await self._store.transact(partial(sql.forget, before=before, most=FORGET_BATCH)):
            count += deleted
        return count

    async def _free_abandoned(self) -> None:
        """Free claims of this daemon that no task works on: what a bug or a lost commit left behind.

        A claim is abandoned if two looks in a row find it so: between a commit and its `begin` there is a moment.
        """
        claimed = await self._store.read(partial(sql.claimed_by, claimant=self._claimant))
        idle = set(claimed) - {one.run.id for one in self._running.under_way}
        abandoned = sorted(idle & self._suspects)
        self._suspects = idle
        if abandoned:
            log.error("freed runs that nobody worked on", extra={"runs": abandoned[:10]})
            now = to_ms(self._clock.now())
            await self._store.transact(
                partial(sql.free, run_ids=abandoned, now=now, reports=self._reports, claimant=self._claimant)
            )
            self._wake()


@contextmanager
def _while_the_store_is_away(what: str) -> Generator[None]:
    """Let a loop that looks again anyway go on when the store refuses: that is no bug of the loop."""
    try:
        yield
    except StoreError as error:
        log.warning("could not %s: %s", what, error)
