"""Instances of services: the words of this package as values."""

import enum
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import attrs

from econeura_daemon.core.clock import format_ms
from econeura_daemon.core.instances import DEFAULT_WEIGHT, CheckKind
from econeura_daemon.core.jsons import dumps

LEASE_INTERVALS = 3
"""A lease lasts so many heartbeat intervals: it ends when the third heartbeat in a row is missing."""
DEREGISTER_AFTER_MS = 600_000


class Status(enum.StrEnum):
    """How an instance is, for those who want to call it."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


class Verdict(enum.StrEnum):
    """What the check says of an instance."""

    HEALTHY = "healthy"
    WARNING = "warning"
    """It passes, and says that it has too much to do: healthy as well."""
    UNHEALTHY = "unhealthy"

    @property
    def passes(self) -> bool:
        """It speaks for the instance."""
        return self is not Verdict.UNHEALTHY


@attrs.frozen(kw_only=True)
class Check:
    """When and how an instance is probed, and how many results in a row turn the verdict."""

    kind: CheckKind = CheckKind.HTTP
    path: str = "/health"
    interval_ms: int = 30_000
    timeout_ms: int = 5_000
    """One probe in all, from look-up to the end of the answer."""
    unhealthy_after: int = 3
    healthy_after: int = 2


@attrs.frozen(kw_only=True)
class Endpoint:
    """A route that an instance offers."""

    endpoint: str
    method: str
    description: str
    requires_auth: bool

    def to_json(self) -> dict[str, Any]:
        """Return the endpoint as the API shows it."""
        return {
            "endpoint": self.endpoint,
            "method": self.method,
            "description": self.description,
            "requiresAuth": self.requires_auth,
        }


@attrs.frozen(kw_only=True)
class Registration:
    """What is said of an instance by whoever brings it in. Durations in milliseconds."""

    id: str
    name: str
    type: str
    host: str
    """A name, or an address (IPv6 without brackets)."""
    port: int
    scheme: str = "http"
    version: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    weight: int = DEFAULT_WEIGHT
    ttl_ms: int | None = None
    """The registrant promises to renew within it; None: no lease."""
    check: Check | None = None
    deregister_after_ms: int = DEREGISTER_AFTER_MS
    server_name: str | None = None
    """The name behind an address that the daemon resolved itself: what ``Host`` and certificates are about."""

    def is_probed_as(self, other: "Registration") -> bool:
        """Tell whether the same probes go to the same place, so that what they found holds for both."""
        return _probed(self) == _probed(other)


@attrs.frozen
class Declaration:
    """One instance as the configuration wants it."""

    registration: Registration
    endpoints: tuple[Endpoint, ...] = ()


def _probed(said: Registration) -> tuple[object, ...]:
    return said.host, said.port, said.scheme, said.server_name, said.check


@attrs.frozen(kw_only=True)
class Health:
    """All that an instance's status is made of."""

    draining: bool = False
    expired: bool = False
    """Its lease ran out."""
    stale: bool = False
    """Its lease ran out, and preserve mode keeps it."""
    verdict: Verdict | None = None
    reason: str = ""
    """Why the verdict is what it is."""


def status_of(health: Health, registration: Registration) -> tuple[Status, str]:
    """Return the status and why: draining before an expired lease, before the check's verdict, before unknown.

    A lease alone makes an instance healthy for as long as it is live.
    """
    if health.draining:
        return Status.DRAINING, "in maintenance: finishes what began, takes nothing new"
    if health.expired:
        return Status.UNHEALTHY, f"the lease ran out: no heartbeat for {registration.ttl_ms} ms"
    kept = "kept without a heartbeat, for many stopped at once; " if health.stale else ""
    if health.verdict is not None:
        return (Status.HEALTHY if health.verdict.passes else Status.UNHEALTHY), kept + health.reason
    if registration.check is not None:
        return Status.UNKNOWN, kept + "no probe has come back yet"
    return Status.HEALTHY, kept + ("its address answers" if health.stale else "the lease is live")


@attrs.frozen(kw_only=True)
class Instance:
    """One reachable address of a service, as it stands in the registry."""

    registration: Registration
    generation: int
    """The index of its registration: what is about an earlier one changes nothing."""
    registered_at: int
    """Milliseconds since the epoch."""
    is_static: bool = False
    """Declared in the configuration."""
    endpoints: tuple[Endpoint, ...] = ()
    health: Health = Health()
    status: Status = attrs.field(init=False)
    reason: str = attrs.field(init=False)

    @status.default
    def _make_status(self) -> Status:
        return status_of(self.health, self.registration)[0]

    @reason.default
    def _make_reason(self) -> str:
        return status_of(self.health, self.registration)[1]

    @property
    def id(self) -> str:
        """Its id."""
        return self.registration.id

    @property
    def type(self) -> str:
        """The service that it is an instance of."""
        return self.registration.type

    def with_health(self, health: Health) -> "Instance":
        """Return it with other health."""
        return attrs.evolve(self, health=health)

    def is_declared_as(self, wanted: Declaration) -> bool:
        """Tell whether it is what the configuration wants."""
        return (
            self.is_static and self.registration == wanted.registration and self.endpoints == wanted.endpoints
        )

    def looks_like(self, other: "Instance") -> bool:
        """Tell whether lists show the same of both.

        Endpoints are not in them, and of an instance in maintenance neither its lease nor its verdict.
        """
        return (
            self.registration == other.registration
            and self.generation == other.generation
            and (self.status, self.reason, self.health.stale)
            == (other.status, other.reason, other.health.stale)
        )

    def written(self, last_heartbeat: int | None = None) -> bytes:
        """Return `to_json` as JSON; all of it but the heartbeat is written once, however often it is listed."""
        before, after = self._around_heartbeat
        heartbeat = "null" if last_heartbeat is None else f'"{format_ms(last_heartbeat)}"'
        return b'%b,"lastHeartbeat":%b,%b' % (before, heartbeat.encode(), after)

    @cached_property
    def _around_heartbeat(self) -> tuple[bytes, bytes]:
        shown = list(self.to_json().items())
        place = [name for name, _ in shown].index("lastHeartbeat")
        return dumps(dict(shown[:place]))[:-1], dumps(dict(shown[place + 1 :]))[1:]

    def to_json(self, last_heartbeat: int | None = None) -> dict[str, Any]:
        """Return the instance as the API shows it in lists."""
        said = self.registration
        shown: dict[str, Any] = {
            "id": said.id,
            "name": said.name,
            "type": said.type,
            "host": said.host,
            "port": said.port,
            "scheme": said.scheme,
            "version": said.version,
            "status": self.status.value,
            "statusReason": self.reason,
            "tags": list(said.tags),
            "metadata": dict(said.metadata),
            "weight": said.weight,
            "ttlMs": said.ttl_ms,
            "check": None if said.check is None else check_json(said.check),
            "deregisterAfterMs": said.deregister_after_ms,
            "lastHeartbeat": None if last_heartbeat is None else format_ms(last_heartbeat),
            "registeredAt": format_ms(self.registered_at),
        }
        if self.health.stale:
            shown["stale"] = True
        if self.is_static:
            shown["static"] = True
        return shown


def check_json(check: Check) -> dict[str, Any]:
    """Return the check as the API shows it."""
    shown: dict[str, Any] = {"kind": check.kind.value}
    if check.kind is CheckKind.HTTP:
        shown["path"] = check.path
    return {
        **shown,
        "intervalMs": check.interval_ms,
        "timeoutMs": check.timeout_ms,
        "unhealthyAfter": check.unhealthy_after,
        "healthyAfter": check.healthy_after,
    }


@attrs.frozen
class Change:
    """One step of the registry: what an instance was before (None: not there) and is after (None: gone)."""

    index: int
    before: Instance | None
    after: Instance | None

    @property
    def instance(self) -> Instance:
        """The instance it is about, as it is, or was last."""
        instance = self.after or self.before
        assert instance is not None, "something was there before or is after"
        return instance

    @property
    def is_seen(self) -> bool:
        """Whether a list that has the instance in it looks different now."""
        return self.before is None or self.after is None or not self.after.looks_like(self.before)
