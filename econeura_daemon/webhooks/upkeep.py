"""What keeps the dispatcher's picture true: it looks into the store for what others left, and holds its leases."""

import logging
from functools import partial

import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.storage import Store
from econeura_daemon.storage.holding import (
    Suspects,
    hold_leases,
    rescan_pause,
    while_the_store_is_away,
)
from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.dispatcher import Dispatcher
from econeura_daemon.webhooks.store import claims, recovery

log = logging.getLogger(__name__)


class Upkeep:
    """Looks after the claims of one dispatcher."""

    def __init__(self, *, store: Store, claimant: Claimant, clock: Clock, dispatcher: Dispatcher) -> None:
        self._store = store
        self._claimant = claimant
        self._clock = clock
        self._dispatcher = dispatcher
        self._suspects = Suspects()

    async def rescan_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Find, for ever, what others left: waiting deliveries, lapsed claims, claims that nobody works on."""
        task_status.started()
        while True:
            await trio.sleep(rescan_pause(self._claimant))
            with while_the_store_is_away("look for what others left"):
                await self._recover_abandoned()
                await self.rescan()

    async def lease_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Prolong the leases of what is under way, three times a lease; without leases only sleep."""
        task_status.started()
        await hold_leases(self._store, self._claimant, lambda: self._dispatcher.under_way, claims.renew)

    async def rescan(self) -> None:
        """Note, for every active subscription, when the first of what waits in the store is due."""
        for subscription, due_at in await self._store.read(recovery.waiting_lanes):
            self._dispatcher.resume(subscription, due_at)

    async def recover(self) -> None:
        """Free what died with its claimant: earlier runs of this daemon, lapsed leases of others."""
        now = to_ms(self._clock.now())
        freed = await self._store.transact(partial(recovery.recover, now=now, claimant=self._claimant))
        if freed:
            log.warning("freed deliveries whose daemon died", extra={"subscriptions": len(freed)})

    async def _recover_abandoned(self) -> None:
        """Free claims of this run that no task works on: what a bug or a lost commit left behind."""
        await self.recover()
        claimed = await self._store.read(partial(recovery.claimed, claimant=self._claimant))
        under_way = (one.delivery_id for one in self._dispatcher.under_way)
        if abandoned := self._suspects.abandoned(claimed, under_way):
            log.error("freed claims that nobody worked on", extra={"deliveries": abandoned[:10]})
            now = to_ms(self._clock.now())
            await self._store.transact(
                partial(recovery.free, ids=abandoned, now=now, claimant=self._claimant)
            )
