"""What keeps the dispatcher's picture true: it looks into the store for what others left, and holds its leases."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import StoreError
from econeura_daemon.storage import Store
from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.dispatcher import Dispatcher
from econeura_daemon.webhooks.store import claims, recovery

log = logging.getLogger(__name__)

SHARED_RESCAN = 2.0
"""Seconds between looks for what other daemons left in a shared store."""
RESCAN = 60.0
"""Seconds between looks into a store of our own, for what a bug or a clock step may have hidden."""


class Upkeep:
    """Looks after the claims of one dispatcher."""

    def __init__(self, *, store: Store, claimant: Claimant, clock: Clock, dispatcher: Dispatcher) -> None:
        self._store = store
        self._claimant = claimant
        self._clock = clock
        self._dispatcher = dispatcher
        self._suspects: set[str] = set()

    async def rescan_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Find, for ever, what others left: waiting deliveries, lapsed claims, claims that nobody works on."""
        task_status.started()
        while True:
            await trio.sleep(SHARED_RESCAN if self._claimant.lease_ms is not None else RESCAN)
            with _while_the_store_is_away("look for what others left"):
                await self._recover_abandoned()
                await self.rescan()

    async def lease_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Prolong the leases of what is under way, three times a lease; without leases only sleep."""
        task_status.started()
        lease = self._claimant.lease_ms
        while lease is not None:
            await trio.sleep(lease / 3000)
            held = list(self._dispatcher.under_way)
            if held:
                with _while_the_store_is_away("prolong the leases"):
                    await self._store.transact(partial(claims.renew, held=held, claimant=self._claimant))
        await trio.sleep_forever()

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
        """Free claims of this run that no task works on: what a bug or a lost commit left behind.

        A claim is abandoned if two looks in a row find it so: between a commit and its `begin` there is a moment.
        """
        await self.recover()
        claimed = await self._store.read(partial(recovery.claimed, claimant=self._claimant))
        idle = set(claimed) - {one.delivery_id for one in self._dispatcher.under_way}
        abandoned = sorted(idle & self._suspects)
        self._suspects = idle
        if abandoned:
            log.error("freed claims that nobody worked on", extra={"deliveries": abandoned[:10]})
            now = to_ms(self._clock.now())
            await self._store.transact(
                partial(recovery.free, ids=abandoned, now=now, claimant=self._claimant)
            )


@contextmanager
def _while_the_store_is_away(what: str) -> Generator[None]:
    """Let a loop that looks again anyway go on when the store refuses: that is no bug of the loop."""
    try:
        yield
    except StoreError as error:
        log.warning("could not %s: %s", what, error)
