"""The composition root: one ladder of `async with open_…()`, opened top to bottom, left bottom to top.

    state directory → store → events → webhooks dispatcher → registry → client → prober → ticker → workers → watchdog
    → http

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

from econeura_daemon.api import Services, create_app, find_passage, hot_routes, scope_of
from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import Settings
from econeura_daemon.daemon.cron_calls import mesh_call
from econeura_daemon.daemon.discovery import open_discovery, open_itself
from econeura_daemon.daemon.integration import open_integration
from econeura_daemon.events import Publisher
from econeura_daemon.server import App, Server, TokenFile, open_listeners, open_server
from econeura_daemon.storage import open_store
from econeura_daemon.supervision.cleaning import own_jobs
from econeura_daemon.supervision.crons import open_crons
from econeura_daemon.supervision.drain import HTTP_SHARE, Drain
from econeura_daemon.supervision.loops import Loops, open_loop
from econeura_daemon.supervision.notify import Notifier
from econeura_daemon.supervision.observing import database_health, observe_backlog, observe_store
from econeura_daemon.supervision.reloading import Reloader
from econeura_daemon.supervision.state_dir import StateDir, open_state_dir
from econeura_daemon.supervision.watchdog import open_watchdog
from econeura_daemon.supervision.webhooks import open_webhooks
from econeura_daemon.telemetry import HealthBoard, Metrics
from econeura_daemon.webhooks import Deliveries, Inbound


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

    @property
    def metrics(self) -> Metrics:
        """Its numbers."""
        return self.services.metrics


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
                open_webhooks(
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
                    call=mesh_call(discovery),
                    own=own_jobs(settings.cron),
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
                    state=state,
                    store=store,
                    events=webhooks.events,
                    discovery=discovery,
                    reloader=webhooks.reloader,
                    metrics=metrics,
                    health=health,
                    loops=loops,
                    drain=drain,
                ) as integration,
                open_watchdog(notifier or Notifier(None, ""), clock, store, metrics, health),
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
