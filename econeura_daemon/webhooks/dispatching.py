"""`open_dispatcher`: the dispatcher and its loops, for the length of a block."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import trio

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.errors import StoreError
from econeura_daemon.storage import Store
from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.dispatcher import CLOSING_SECONDS, Dispatcher, Observer, Send
from econeura_daemon.webhooks.fan_out import SubscriptionFanOut
from econeura_daemon.webhooks.lanes import Lanes
from econeura_daemon.webhooks.policies import Policies
from econeura_daemon.webhooks.recorder import Recorder
from econeura_daemon.webhooks.upkeep import Upkeep

log = logging.getLogger(__name__)

RunLoop = Callable[[str, Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]
"""Wraps a loop in supervision: (name, loop) to something that a nursery can start."""


def unsupervised(_name: str, loop: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Run a loop as it is."""
    return loop


@asynccontextmanager
async def open_dispatcher(
    *,
    store: Store,
    lanes: Lanes,
    claimant: Claimant,
    policies: Policies,
    fan_out: SubscriptionFanOut,
    send: Send,
    recorder: Recorder,
    observer: Observer,
    clock: Clock,
    rng: Random,
    supervised: RunLoop = unsupervised,
    drain_until: Callable[[], float] = lambda: float("inf"),
) -> AsyncGenerator[Dispatcher]:
    """Dispatch for the length of the block; leave the block drained.

    Leaving waits for attempts under way until ``drain_until()`` (on Trio's clock); what is left then is given
    back without costing an attempt.
    """
    async with trio.open_nursery() as loops:
        async with trio.open_nursery() as attempts:
            dispatcher = Dispatcher(
                store=store,
                lanes=lanes,
                claimant=claimant,
                policies=policies,
                send=send,
                recorder=recorder,
                observer=observer,
                clock=clock,
                rng=rng,
                attempts=attempts,
            )
            upkeep = Upkeep(store=store, claimant=claimant, clock=clock, dispatcher=dispatcher)
            recorder.connect(attempts, dispatcher.over)
            await upkeep.recover()
            await upkeep.rescan()
            fan_out.connect(dispatcher.begin, dispatcher.wake)
            lanes.open()
            for name, loop in (
                ("dispatcher", dispatcher.claim_loop),
                ("dispatcher.rescan", upkeep.rescan_loop),
                ("dispatcher.leases", upkeep.lease_loop),
            ):
                await loops.start(supervised(name, loop))
            try:
                yield dispatcher
            finally:
                dispatcher.drain()
                await _pass_through(store)  # what was born claimed before the drain has begun by then
                dispatcher.retire()
                attempts.cancel_scope.deadline = drain_until()
        dispatcher.close()
        loops.cancel_scope.cancel()


async def _pass_through(store: Store) -> None:
    """Wait until all that was queued in the store before is committed, or the store is lost."""
    with trio.move_on_after(CLOSING_SECONDS, shield=True):
        try:
            await store.transact(lambda _connection: None)
        except StoreError as error:
            log.warning("the store refused while draining: %s", error)
