"""What the routes act on, handed to the app when it is made."""

from collections.abc import Sequence
from random import Random

import attrs
import trio
from quart import current_app

from econeura_daemon.api.idempotency import IdempotencyKeys
from econeura_daemon.api.lists import Lists
from econeura_daemon.api.paging import Cursors
from econeura_daemon.client import Mesh, NoHealthyInstanceError
from econeura_daemon.core.clock import Clock
from econeura_daemon.core.errors import SwitchedOffError
from econeura_daemon.core.settings import Settings
from econeura_daemon.cron import Jobs
from econeura_daemon.events import EventLog, Publisher
from econeura_daemon.probes import Prober
from econeura_daemon.registry import Registry
from econeura_daemon.storage import Store
from econeura_daemon.telemetry import HealthBoard, Metrics
from econeura_daemon.webhooks import Deliveries, Inbound, Subscriptions
from econeura_daemon.workers import Workers

_NAME = "econeura"


@attrs.frozen(kw_only=True)
class Discovery:
    """Who is there, how they are, and who calls them."""

    registry: Registry
    prober: Prober
    mesh: Mesh


@attrs.frozen(kw_only=True)
class Services:
    """The features behind the API. Made on the event loop, when the daemon opens its HTTP surface."""

    settings: Settings
    clock: Clock
    rng: Random = attrs.field(repr=False)
    store: Store
    log: EventLog
    publisher: Publisher
    subscriptions: Subscriptions
    deliveries: Deliveries
    inbound: Inbound
    jobs: Jobs
    discovery: "Discovery | None"
    """None: switched off."""
    integration: Workers | None
    """None: discovery is switched off."""
    health: HealthBoard
    metrics: Metrics
    name: str = "econeura-daemon"
    """As what it calls itself."""
    features: Sequence[str] = attrs.field()
    """What it has to offer."""
    cursors: Cursors = attrs.field(init=False)
    keys: IdempotencyKeys = attrs.field(init=False)
    lists: Lists = attrs.field(init=False, factory=Lists)
    started: float = attrs.field(init=False, factory=trio.current_time)
    """By Trio's clock, in seconds."""

    @features.default
    def _found_features(self) -> Sequence[str]:
        more = ("discovery", "mesh", "workers") if self.discovery is not None else ()
        return ("events", "webhooks", "stream", "cron", *more)

    @cursors.default
    def _make_cursors(self) -> Cursors:
        return Cursors(self.store, self.rng)

    @keys.default
    def _make_keys(self) -> IdempotencyKeys:
        return IdempotencyKeys(self.store, self.clock)

    @property
    def registry(self) -> Registry:
        """Who is there. Raises `SwitchedOffError`."""
        return self._discovery.registry

    @property
    def prober(self) -> Prober:
        """How they are. Raises `SwitchedOffError`."""
        return self._discovery.prober

    @property
    def mesh(self) -> Mesh:
        """Calls them. Raises `SwitchedOffError`."""
        return self._discovery.mesh

    @property
    def workers(self) -> Workers:
        """Has e-mails processed. Raises `NoHealthyInstanceError`: without discovery there is nobody to ask."""
        if self.integration is None:
            raise NoHealthyInstanceError("Service discovery is switched off (discovery.enabled = false)")
        return self.integration

    @property
    def _discovery(self) -> "Discovery":
        if self.discovery is None:
            raise SwitchedOffError("Service discovery", "discovery.enabled")
        return self.discovery

    def install(self, extensions: dict[str, object]) -> None:
        """Let the routes of an app find these services."""
        extensions[_NAME] = self


def services() -> Services:
    """Return the services of the app that handles the present request."""
    found: Services = current_app.extensions[_NAME]
    return found
