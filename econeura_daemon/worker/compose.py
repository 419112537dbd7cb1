"""The composition root of the reference workers service, on the rungs that it shares with the daemon.

    state directory → store → events → webhooks dispatcher → mail store → processors → cron → watchdog → http → registry

What is registered last is left first: the daemon sends nothing more before anything else ends.
"""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import cast
from urllib.parse import urlsplit

import attrs
import trio

from econeura_daemon._version import VERSION
from econeura_daemon.api import Services, create_app
from econeura_daemon.api.routing import scope_in
from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import Settings
from econeura_daemon.core.settings_worker import WorkerSettings
from econeura_daemon.cron import Outcome, RunStatus
from econeura_daemon.events import Publisher
from econeura_daemon.registrant import registered
from econeura_daemon.server import App, Server, TokenFile, open_listeners, open_server
from econeura_daemon.storage import open_store
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
from econeura_daemon.worker.mails import Mails
from econeura_daemon.worker.mailstore import (
    MailServer,
    Security,
    open_mail_store,
    watch,
)
from econeura_daemon.worker.observing import (
    daemon_health,
    mail_store_health,
    observe_mails,
    processors_health,
)
from econeura_daemon.worker.outbound import subscribe
from econeura_daemon.worker.processing import open_processors
from econeura_daemon.worker.routes import GROUPS
from econeura_daemon.worker.services import WorkerServices
from econeura_daemon.worker.tasks import MailSync, make_tasks, own_jobs, told_by_a_worker
from econeura_daemon.workers.recording import Recorder
from econeura_daemon.workers.waiting import Waiting

SOURCE = "workers"
"""Of its events."""
AT_ONCE = 4
"""Mails under way for each process that reads them: one is understood while others are read, or wait for the disk."""
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_.-]")
MAX_WAITING = 2000
MAX_WAIT = 60.0
"""Seconds; a daemon's own deadline is usually sooner."""

FEATURES = ("emails", "cron", "webhooks")

ROUTES = [route for group in GROUPS for route in group.all]


@attrs.frozen(kw_only=True)
class Worker:
    """A worker at work: ready for as long as the block of `open_worker` lasts."""

    state: StateDir
    server: Server
    worker_id: str
    """As what it is registered."""
    metrics: Metrics
    reloader: Reloader

    @property
    def urls(self) -> list[str]:
        """Where it can be reached, with real ports."""
        return self.server.urls


@asynccontextmanager
async def open_worker(
    settings: Settings,
    clock: Clock,
    rng: Random,
    *,
    drain: Drain,
    environ: Mapping[str, str],
    notifier: Notifier,
) -> AsyncGenerator[Worker]:
    """Run a worker for the length of the block; leave the block drained.

    ``settings`` as `effective` returns them. Raises `SettingsError`, `StateDirectoryHeldError`, `StoreError`,
    `MailStoreError`.
    """
    metrics, health = Metrics(), HealthBoard()
    loops = Loops(metrics, rng)
    said = settings.worker
    with open_state_dir(Path(settings.daemon.state_dir), clock, rng) as state, ExitStack() as stack:
        tokens = TokenFile(state.path)
        listeners = open_listeners(settings.http, environ, has_tokens=tokens.has_tokens)
        for listener in listeners:
            stack.enter_context(listener)
        host, port = _address(listeners[0].url)
        worker_id = said.instance_id or _NOT_IN_AN_ID.sub(
            "-", f"{settings.workers.service_type}-{host}-{port}"
        )
        mail_store = await trio.to_thread.run_sync(
            partial(open_mail_store, Path(said.mail), said.mail_kind, server=mail_server(said), clock=clock)
        )
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
                open_processors(
                    said.rules or None, processes=said.processes, time_limit=said.process_timeout_ms / 1000
                ) as processors,
            ):
                recorder = Recorder(
                    store,
                    webhooks.events,
                    clock,
                    rng,
                    lambda status, number: metrics.emails.inc(status.value, by=number),
                    source=SOURCE,
                )
                waiting = Waiting(
                    lambda _under_way: said.processes * AT_ONCE, max_waiting=MAX_WAITING, max_wait=MAX_WAIT
                )
                mails = Mails(
                    store=mail_store,
                    processors=processors,
                    waiting=waiting,
                    recorder=recorder,
                    worker_id=worker_id,
                    at_once=said.processes * AT_ONCE,
                )
                health.add("mail_store", lambda: mail_store_health(mail_store))
                health.add("processors", lambda: processors_health(processors))
                observe_mails(metrics, mails)
                sync = MailSync(mail_store)
                await subscribe(webhooks.subscriptions, said.daemon_url)
                async with (
                    open_loop(loops.supervised("waiting", waiting.look)),
                    open_loop(loops.supervised("mail_store", partial(watch, mail_store, sync.noticed))),
                    open_crons(
                        settings=settings,
                        clock=clock,
                        rng=rng,
                        state=state,
                        store=store,
                        events=webhooks.events,
                        call=_no_calls,
                        tasks=make_tasks(
                            settings=said,
                            clock=clock,
                            state_dir=state.path,
                            store=store,
                            events=webhooks.events,
                            mails=mails,
                            sync=sync,
                        ),
                        own=own_jobs(said.jobs, said.time_zone),
                        tell=partial(told_by_a_worker, worker_id),
                        reloader=webhooks.reloader,
                        metrics=metrics,
                        health=health,
                        loops=loops,
                        drain=drain,
                    ) as cron,
                    open_watchdog(notifier, clock, store, metrics, health),
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
                        discovery=None,
                        integration=None,
                        health=health,
                        metrics=metrics,
                        name="econeura-worker",
                        features=FEATURES,
                    )
                    app = create_app(services, GROUPS)
                    WorkerServices(mails=mails).install(app.extensions)
                    async with (
                        open_server(
                            cast("App", app),  # an ASGI app; its types name the messages
                            listeners,
                            settings.http,
                            clock=clock,
                            rng=rng,
                            tokens=tokens,
                            auth_required=settings.auth.required,
                            scope_of=partial(scope_in, ROUTES),
                            telemetry=metrics,
                            drain_timeout_ms=int(settings.daemon.drain_timeout_ms * HTTP_SHARE),
                            access_log=settings.log.access,
                        ) as server,
                        registered(
                            settings.workers.service_type,
                            host,
                            port,
                            instance_id=worker_id,
                            version=VERSION,
                            check={"path": "/readyz", "intervalMs": 5000},
                            endpoints=[
                                {"endpoint": one.path, "method": one.method, "description": one.summary}
                                for one in ROUTES
                            ],
                            url=said.daemon_url,
                            token=said.token,
                            start_timeout=0,
                        ) as registrant,
                    ):
                        health.add("daemon", lambda: daemon_health(registrant, said.daemon_url))
                        try:
                            yield Worker(
                                state=state,
                                server=server,
                                worker_id=worker_id,
                                metrics=metrics,
                                reloader=webhooks.reloader,
                            )
                        finally:
                            drain.begin()


def mail_server(settings: WorkerSettings) -> MailServer | None:
    """Return where forwarded mails are handed in, None if nothing is forwarded."""
    if settings.smtp_host is None or settings.smtp_sender is None:
        return None
    return MailServer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=Security(settings.smtp_security),
        sender=settings.smtp_sender,
        user=settings.smtp_user,
        password=settings.smtp_password,
    )


async def _no_calls(_action: object, _key: str, _timeout: float) -> Outcome:
    await trio.lowlevel.checkpoint()
    return Outcome(status=RunStatus.FAILED, error="A workers service calls no services")


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None, "a worker listens on TCP"
    assert parts.port is not None, "with a port"
    return parts.hostname, parts.port
