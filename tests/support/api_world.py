"""The real app behind the real layers, over a store of the test's choice; only sockets are missing."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

import attrs
import httpx
import trio

from econeura_daemon.api import Discovery, Services, create_app, find_passage, hot_routes
from econeura_daemon.api.routes import GROUPS
from econeura_daemon.api.routing import scope_in
from econeura_daemon.client import open_client
from econeura_daemon.core.settings import Settings, StorageSettings, WebhookSettings
from econeura_daemon.cron import Jobs, Reports
from econeura_daemon.events import EventLog, Publisher
from econeura_daemon.probes import Outcome, ProbeResult, open_prober
from econeura_daemon.registry import open_registry
from econeura_daemon.server import Peer
from econeura_daemon.server.connection import Drain
from econeura_daemon.server.gate import Gate
from econeura_daemon.server.rules.shed import Slots
from econeura_daemon.storage import open_store
from econeura_daemon.telemetry import ComponentHealth, HealthBoard, Metrics
from econeura_daemon.webhooks import (
    Claimant,
    Deliveries,
    Inbound,
    Lanes,
    Policies,
    SubscriptionFanOut,
    Subscriptions,
)
from econeura_daemon.workers import open_workers

ORIGIN = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
BASE_URL = "http://localhost:3001"


class TrioClock:
    """The wall clock rides Trio's, from a fixed beginning; ``shift`` is a step of the wall clock."""

    def __init__(self):
        self.shift = timedelta()
        self._trio = trio.lowlevel.current_clock()  # works ask it from the writer's thread too
        self._origin = self._trio.current_time()

    def now(self):
        return ORIGIN + self.shift + timedelta(seconds=self._trio.current_time() - self._origin)


async def well(_registration, _check):
    """Find every instance well."""
    await trio.lowlevel.checkpoint()
    return ProbeResult(outcome=Outcome.PASS, detail="HTTP 200")


class NoTokens:
    def authenticate(self, text, now):
        return None


@attrs.define
class World:
    """What a test acts on."""

    services: Services
    app: object
    asgi: object
    drain: Drain
    clock: TrioClock
    client: httpx.AsyncClient
    lanes: Lanes
    claimant: Claimant
    policies: Policies
    fan_out: SubscriptionFanOut

    async def post(self, path, body, **headers):
        """Post JSON; a keyword ``idempotency_key`` is the header Idempotency-Key."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, json=body, headers=named)

    async def counts(self):
        """Return how many rows each table has that a request could write."""
        names = (
            "events",
            "deliveries",
            "subscriptions",
            "idempotency_keys",
            "instances",
            "cron_jobs",
            "cron_runs",
        )

        def work(connection):
            import sqlalchemy as sa

            return {
                name: connection.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one()
                for name in names
            }

        return await self.services.store.read(work)


@asynccontextmanager
async def open_world(
    store,
    *,
    settings=None,
    tokens=None,
    log=None,
    auth_required=False,
    probe=well,
    registry_on=None,
    groups=GROUPS,
    own_jobs=(),
):
    """Open the API over ``store``, behind the layers, with an in-process client; ``probe`` finds instances well.

    ``groups``: another process's routes; ``own_jobs``: ids of its own jobs.
    ``registry_on``: the store of registry and bulk jobs, which are read at once, where ``store`` holds works back.
    """
    settings = settings or Settings()
    clock, rng = TrioClock(), Random(7)
    policies = Policies(settings.webhooks)
    claimant = Claimant("daemon", "run", None)
    lanes = Lanes(16)
    fan_out = SubscriptionFanOut(lanes=lanes, claimant=claimant, policies=policies, rng=rng)
    log = log or EventLog(store, fan_out)
    async with (
        open_registry(
            store=registry_on or store,
            log=log,
            settings=settings.discovery,
            daemon_id="daemon",
            clock=clock,
            rng=rng,
        ) as registry,
        open_prober(registry=registry, probe=probe, clock=clock, rng=rng, max_in_flight=16) as prober,
        open_client(
            resolve=lambda name: registry.snapshot().resolve(name), settings_of=settings.mesh_of, rng=rng
        ) as calling,
        open_workers(
            store=registry_on or store,
            events=log,
            mesh=calling.mesh,
            settings=settings.workers,
            clock=clock,
            rng=rng,
            claimant=claimant,
        ) as workers,
    ):
        health = HealthBoard()
        health.add("database", lambda: ComponentHealth("healthy", "sqlite"))
        metrics = Metrics()
        publisher = Publisher(store, log, clock, rng)
        services = Services(
            settings=settings,
            clock=clock,
            rng=rng,
            store=store,
            log=log,
            publisher=publisher,
            subscriptions=Subscriptions(
                store=store, policies=policies, claimant=claimant, clock=clock, rng=rng
            ),
            deliveries=Deliveries(store),
            inbound=Inbound(publisher, log, policies, clock),
            jobs=Jobs(
                store=store, reports=Reports(log, rng), claimant=claimant, clock=clock, rng=rng, own=own_jobs
            ),
            discovery=Discovery(registry=registry, prober=prober, mesh=calling.mesh)
            if settings.discovery.enabled
            else None,
            integration=workers if settings.discovery.enabled else None,
            health=health,
            metrics=metrics,
        )
        app = create_app(services, groups)
        drain = Drain()
        tokens = tokens or NoTokens()
        limit = settings.http.max_concurrent_requests
        stack = Gate(
            app,
            settings.http,
            clock=clock,
            rng=rng,
            drain=drain,
            telemetry=metrics,
            tokens=tokens,
            auth_required=auth_required,
            scope_of=partial(scope_in, [route for group in groups for route in group.all]),
            host_names=["localhost:3001"],
            slots=Slots(limit, limit),
            access_log=False,
            hot=hot_routes(services),
            find_passage=find_passage(services),
        )
        asgi = from_this_machine(stack)
        transport = httpx.ASGITransport(app=asgi)
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
            yield World(services, app, asgi, drain, clock, client, lanes, claimant, policies, fan_out)


@asynccontextmanager
async def open_stored_world(folder, *, settings=None, url="", **more):
    """Open the API over a real SQLite store in ``folder``, or over PostgreSQL at ``url``."""
    async with (
        open_store(StorageSettings(url=url), folder) as store,
        open_world(store, settings=settings or Settings(webhooks=WebhookSettings()), **more) as world,
    ):
        yield world


def from_this_machine(app):
    """Say of each request that its peer is local, as a connection does."""

    async def serve(scope, receive, send):
        scope["econeura.peer"] = Peer("127.0.0.1:40000", is_local=True)
        await app(scope, receive, send)

    return serve
