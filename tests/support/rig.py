"""The spine without HTTP: store, log, subscriptions and dispatcher around a `send` of the test's."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import attrs

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.events import EventLog, Publisher, PublishEvent
from econeura_daemon.storage import Store
from econeura_daemon.webhooks import (
    Claimant,
    CreateSubscription,
    Deliveries,
    Dispatcher,
    Lanes,
    Policies,
    Recorder,
    SubscriptionFanOut,
    Subscriptions,
    open_dispatcher,
)
from econeura_daemon.webhooks.dispatcher import Observer
from econeura_daemon.webhooks.model import Attempt, AttemptOutcome, Delivery, Outgoing

DEFAULTS = WebhookSettings()

Send = Callable[[Outgoing], Awaitable[AttemptOutcome]]


class NoObserver:
    def attempted(self, *_: object) -> None:
        pass


NOBODY = NoObserver()


@attrs.frozen(kw_only=True)
class Rig:
    """What stands while the dispatcher runs."""

    store: Store
    clock: Clock
    log: EventLog
    publisher: Publisher
    subscriptions: Subscriptions
    deliveries: Deliveries
    dispatcher: Dispatcher
    lanes: Lanes

    async def subscribe(self, *patterns: str, url: str = "http://receiver.example/hook", **fields) -> str:
        subscription = await self.subscriptions.create(
            CreateSubscription(url=url, events=patterns or ("*",), **fields)
        )
        return subscription.id

    async def publish(self, event_type: str = "order.paid", n: int = 1) -> list[str]:
        published = await self.publisher.publish(
            [PublishEvent(type=event_type, data={"n": i}) for i in range(n)]
        )
        return [one.id for one in published]

    async def only_delivery(self) -> tuple[Delivery, list[Attempt]]:
        (delivery,) = await self.deliveries.page(limit=10)
        return await self.deliveries.get(delivery.id)

    async def statuses(self) -> list[str]:
        return sorted(one.status.value for one in await self.deliveries.page(limit=10_000))


@asynccontextmanager
async def open_rig(
    store: Store,
    clock: Clock,
    send: Send,
    *,
    settings: WebhookSettings = DEFAULTS,
    run_id: str = "run_1",
    daemon_id: str = "dmn_1",
    drain_until: Callable[[], float] = lambda: float("inf"),
    observer: Observer = NOBODY,
) -> AsyncGenerator[Rig]:
    """Dispatch into ``send`` for the length of the block."""
    rng = Random(7)
    claimant = Claimant(
        daemon_id, run_id, None if store.statistics().backend == "sqlite" else settings.lease_ms
    )
    lanes = Lanes(settings.max_in_flight)
    policies = Policies(settings)
    fan_out = SubscriptionFanOut(lanes=lanes, claimant=claimant, policies=policies, rng=rng)
    log = EventLog(store, fan_out)
    recorder = Recorder(
        store=store, events=log, lanes=lanes, policies=policies, claimant=claimant, clock=clock, rng=rng
    )
    async with open_dispatcher(
        store=store,
        lanes=lanes,
        claimant=claimant,
        policies=policies,
        fan_out=fan_out,
        send=send,
        recorder=recorder,
        observer=observer,
        clock=clock,
        rng=rng,
        drain_until=drain_until,
    ) as dispatcher:
        yield Rig(
            store=store,
            clock=clock,
            log=log,
            publisher=Publisher(store, log, clock, rng),
            subscriptions=Subscriptions(
                store=store,
                policies=policies,
                claimant=claimant,
                clock=clock,
                rng=rng,
                resumed=dispatcher.resume,
            ),
            deliveries=Deliveries(store),
            dispatcher=dispatcher,
            lanes=lanes,
        )


def answered(clock: Clock, status: int = 200, **fields) -> AttemptOutcome:
    return AttemptOutcome(sent_at=clock.now(), duration_ms=1, status_code=status, **fields)


def failed(clock: Clock, error: str = "connection refused") -> AttemptOutcome:
    return AttemptOutcome(sent_at=clock.now(), duration_ms=1, error=error)
