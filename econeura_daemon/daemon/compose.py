"""The composition root: one ladder of `async with open_…()`, opened top to bottom, left bottom to top.

    state directory → store → events → webhooks dispatcher → registry → client → prober → ticker → watchdog → http

The ladder is the order of joining. What one feature needs of another (`events.FanOut`, the dispatcher's
`Observer`) meets here and nowhere else.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import cast

import attrs
import trio

from econeura_daemon.api import Services, create_app, find_passage, hot_routes, scope_of
from econeura_daemon.core.clock import Clock, ForwardClock
from econeura_daemon.core.settings import Settings
from econeura_daemon.daemon.crons import open_crons
from econeura_daemon.daemon.discovery import open_discovery, open_itself
from econeura_daemon.daemon.drain import HTTP_SHARE, Drain
from econeura_daemon.daemon.integration import open_integration
from econeura_daemon.daemon.loops import Loops, open_loop
from econeura_daemon.daemon.notify import Notifier
from econeura_daemon.daemon.observing import (
    DeliveryObserver,
    database_health,
    dispatcher_health,
    observe_backlog,
    observe_lanes,
    observe_store,
)
from econeura_daemon.daemon.reloading import Reloader
from econeura_daemon.daemon.state_dir import StateDir, open_state_dir
from econeura_daemon.daemon.watchdog import Watchdog
from econeura_daemon.events import EventLog, Publisher
from econeura_daemon.server import App, Server, TokenFile, open_listeners, open_server
from econeura_daemon.storage import Store, open_store
from econeura_daemon.telemetry import HealthBoard, Metrics
from econeura_daemon.webhooks import (
    Claimant,
    Deliveries,
    Inbound,
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
class Daemon:
    """A daemon at work: ready for as long as the block of `open_daemon` lasts."""

    state: StateDir
    server: Server
    services: Services
    reloader: Reloader

    @property
    def urls(self) -> list[str]:
        """Where it can be reached, with real ports."""
        return self.server.urls


@asynccontextmanager
async def open_daemon(
    settings: Settings,
    clock: Clock,
    rng: Random,
    *,
    drain: Drain,
    environ: Mapping[str, str],
    notifier: Notifier | None = None,
) -> AsyncGenerator[Daemon]:
    """Run a daemon for the length of the block; leave the block drained.

    ``settings`` name the state directory and the database. When ``drain`` begins every intake closes at once;
    leaving the block begins it. Raises `SettingsError`, `StateDirectoryHeldError`, `StoreError`.
    """
    metrics, health = Metrics(), HealthBoard()
    loops = Loops(metrics, rng)
    with open_state_dir(Path(settings.daemon.state_dir), clock, rng) as state, ExitStack() as stack:
        tokens = TokenFile(state.path)
        listeners = open_listeners(settings.http, environ, has_tokens=tokens.has_tokens)
        for listener in listeners:
            stack.enter_context(listener)
        async with open_store(settings.storage, state.path) as store:
            observe_store(metrics, store)
            health.add("database", lambda: database_health(store))
            deliveries = Deliveries(store)
            async with (
                _open_webhooks(
                    settings=settings,
                    clock=clock,
                    rng=rng,
                    state=state,
                    store=store,
                    metrics=metrics,
                    health=health,
                    loops=loops,
                    drain=drain,
                ) as webhooks,
                open_loop(loops.supervised("backlog", partial(observe_backlog, metrics, deliveries))),
                open_discovery(
                    settings=settings,
                    clock=clock,
                    rng=rng,
                    state=state,
                    store=store,
                    events=webhooks.events,
                    reloader=webhooks.reloader,
                    metrics=metrics,
                    health=health,
                    loops=loops,
                    drain=drain,
                ) as discovery,
                open_crons(
                    settings=settings,
                    clock=clock,
                    rng=rng,
                    state=state,
                    store=store,
                    events=webhooks.events,
                    discovery=discovery,
                    reloader=webhooks.reloader,
                    metrics=metrics,
                    health=health,
                    loops=loops,
                    drain=drain,
                ) as cron,
                open_integration(
                    settings=settings,
                    clock=clock,
                    rng=rng,
                    store=store,
                    events=webhooks.events,
                    discovery=discovery,
                    reloader=webhooks.reloader,
                    metrics=metrics,
                    health=health,
                    loops=loops,
                ) as integration,
                _open_watchdog(notifier or Notifier(None, ""), clock, store, metrics, health),
            ):
                publisher = Publisher(store, webhooks.events, clock, rng)
                services = Services(
                    settings=settings,
                    clock=clock,
                    rng=rng,
                    store=store,
                    log=webhooks.events,
                    publisher=publisher,
                    subscriptions=webhooks.subscriptions,
                    deliveries=deliveries,
                    inbound=Inbound(publisher, webhooks.events, webhooks.policies, clock),
                    jobs=cron.jobs,
                    discovery=discovery,
                    integration=integration,
                    health=health,
                    metrics=metrics,
                )
                async with open_server(
                    cast("App", create_app(services)),  # an ASGI app; its types name the messages
                    listeners,
                    settings.http,
                    clock=clock,
                    rng=rng,
                    tokens=tokens,
                    auth_required=settings.auth.required,
                    scope_of=scope_of,
                    telemetry=metrics,
                    drain_timeout_ms=int(settings.daemon.drain_timeout_ms * HTTP_SHARE),
                    access_log=settings.log.access,
                    hot=hot_routes(services),
                    find_passage=find_passage(services),
                ) as server:
                    drain.closes(server.stop_accepting)
                    async with open_itself(services, server.urls, loops):
                        try:
                            yield Daemon(
                                state=state, server=server, services=services, reloader=webhooks.reloader
                            )
                        finally:
                            drain.begin()


@attrs.frozen(kw_only=True)
class _Webhooks:
    events: EventLog
    subscriptions: Subscriptions
    policies: Policies
    reloader: Reloader


@asynccontextmanager
async def _open_webhooks(
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
) -> AsyncGenerator[_Webhooks]:
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
                yield _Webhooks(
                    events=events,
                    subscriptions=subscriptions,
                    policies=policies,
                    reloader=Reloader(
                        settings, policies=policies, lanes=lanes, sender=sender, transport=transport
                    ),
                )


@asynccontextmanager
async def _open_watchdog(
    notifier: Notifier, clock: Clock, store: Store, metrics: Metrics, health: HealthBoard
) -> AsyncGenerator[None]:
    watchdog = Watchdog(notifier, store.ping, clock, observe_lag=metrics.event_loop_lag_seconds.observe)
    health.add("event_loop", watchdog.health)
    async with open_loop(watchdog.run):
        yield
