"""The rung of webhooks: the event log and the dispatcher."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from econeura_daemon.core.clock import Clock, ForwardClock
from econeura_daemon.core.settings import Settings
from econeura_daemon.events import EventLog
from econeura_daemon.storage import Store
from econeura_daemon.supervision.drain import Drain
from econeura_daemon.supervision.loops import Loops, open_loop
from econeura_daemon.supervision.observing import DeliveryObserver, dispatcher_health, observe_lanes
from econeura_daemon.supervision.reloading import Reloader
from econeura_daemon.supervision.state_dir import StateDir
from econeura_daemon.telemetry import HealthBoard, Metrics
from econeura_daemon.webhooks import (
    Claimant,
    Lanes,
    Policies,
    Recorder,
    SubscriptionFanOut,
    Subscriptions,
    open_dispatcher,
)
from econeura_daemon.webhooks.sender import Sender
from econeura_daemon.wire import open_transport


@attrs.frozen(kw_only=True)
class Webhooks:
    """What stands while the rung is open."""

    events: EventLog
    subscriptions: Subscriptions
    policies: Policies
    reloader: Reloader


@asynccontextmanager
async def open_webhooks(
    *,
    settings: Settings,
    clock: Clock,
    rng: Random,
    state: StateDir,
    store: Store,
    metrics: Metrics,
    health: HealthBoard,
    loops: Loops,
    drain: Drain,
) -> AsyncGenerator[Webhooks]:
    """The event log and the dispatcher, which need each other: events are owed, and owing makes events."""
    # What is due must not become undue when somebody sets the wall clock back.
    due_clock = ForwardClock(clock, trio.current_time)
    is_shared = store.statistics().backend != "sqlite"
    claimant = Claimant(state.daemon_id, state.run_id, settings.webhooks.lease_ms if is_shared else None)
    lanes = Lanes(settings.webhooks.max_in_flight)
    policies = Policies(settings.webhooks)
    fan_out = SubscriptionFanOut(lanes=lanes, claimant=claimant, policies=policies, rng=rng)
    events = EventLog(store, fan_out, appended=lambda count: metrics.events_published.inc(by=count))
    recorder = Recorder(
        store=store,
        events=events,
        lanes=lanes,
        policies=policies,
        claimant=claimant,
        clock=due_clock,
        rng=rng,
    )
    async with open_transport(settings.webhooks) as transport:
        sender = Sender(transport, settings.webhooks, clock, rng)
        async with open_dispatcher(
            store=store,
            lanes=lanes,
            claimant=claimant,
            policies=policies,
            fan_out=fan_out,
            send=sender.send,
            recorder=recorder,
            observer=DeliveryObserver(metrics),
            clock=due_clock,
            rng=rng,
            supervised=loops.supervised,
            drain_until=drain.deadline,
        ) as dispatcher:
            drain.closes(dispatcher.drain)
            observe_lanes(metrics, lanes)
            health.add(
                "dispatcher", lambda: dispatcher_health(loops.health_of("dispatcher"), dispatcher, lanes)
            )
            subscriptions = Subscriptions(
                store=store,
                policies=policies,
                claimant=claimant,
                clock=clock,
                rng=rng,
                resumed=dispatcher.resume,
            )
            async with open_loop(loops.supervised("deletions", subscriptions.finish_deletions_loop)):
                yield Webhooks(
                    events=events,
                    subscriptions=subscriptions,
                    policies=policies,
                    reloader=Reloader(
                        settings, policies=policies, lanes=lanes, sender=sender, transport=transport
                    ),
                )
