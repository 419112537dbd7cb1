"""What registrants say becomes what is registered."""

from collections.abc import Sequence
from typing import Any

import attrs

from econeura_daemon.core.hosts import ascii_host
from econeura_daemon.core.instances import HOUR_MS, CheckBody, EndpointBody, InstanceBody
from econeura_daemon.core.settings import ServiceSettings
from econeura_daemon.core.validators import between, optional
from econeura_daemon.registry.model import DEREGISTER_AFTER_MS, Check, Declaration, Endpoint, Registration


@attrs.frozen(kw_only=True)
class RegisterService(InstanceBody):
    """The body of ``POST /v1/services``. With neither ``ttlMs`` nor ``check`` it is probed at ``/health``."""

    ttl_ms: int | None = attrs.field(default=None, validator=optional(between(100, 24 * HOUR_MS)))
    deregister_after_ms: int = attrs.field(
        default=DEREGISTER_AFTER_MS, validator=between(100, 365 * 24 * HOUR_MS)
    )
    status: Any = None
    """Existing registrants send one; it is ignored."""

    def registration(self, new_id: str, interval_ms: int) -> Registration:
        """Return what is registered.

        ``new_id``: for a body without one; ``interval_ms``: between two probes, for a check that does not say.
        """
        said = registration_of(self, self.id or new_id, interval_ms)
        return attrs.evolve(
            said,
            ttl_ms=self.ttl_ms,
            check=None if self.check is None and self.ttl_ms is not None else said.check,
            deregister_after_ms=self.deregister_after_ms,
        )


def registration_of(body: InstanceBody, key: str, interval_ms: int) -> Registration:
    """Return what is registered under the id ``key``: without a lease, probed at ``/health`` unless it says how.

    ``interval_ms``: between two probes, for a check that does not say.
    """
    return Registration(
        id=key,
        name=body.name or key,
        type=body.type,
        host=ascii_host(body.host.lower()),
        port=body.port,
        scheme=body.scheme,
        version=body.version,
        tags=tuple(dict.fromkeys(body.tags)),
        metadata=body.metadata,
        weight=body.weight,
        check=_check_of(body.check or CheckBody(), interval_ms),
    )


def declarations_of(
    service: ServiceSettings, addresses: Sequence[str], interval_ms: int
) -> list[Declaration]:
    """Return the instances that a static service is: one, or with ``resolve`` one at each of ``addresses``."""
    said = registration_of(service, service.key, interval_ms)
    endpoints = endpoints_of(service.endpoints)
    if not service.resolve:
        return [Declaration(said, endpoints)]
    return [
        Declaration(
            attrs.evolve(said, id=service.instance_id(address), host=address, server_name=service.dns_name),
            endpoints,
        )
        for address in addresses
    ]


def _check_of(body: CheckBody, interval_ms: int) -> Check:
    fields = attrs.asdict(body, recurse=False)
    fields["interval_ms"] = body.interval_ms or interval_ms
    return Check(**fields)


def endpoints_of(bodies: Sequence[EndpointBody]) -> tuple[Endpoint, ...]:
    """Return endpoints as values, each method and path once: the last one said counts."""
    found = {(body.method, body.endpoint): Endpoint(**attrs.asdict(body)) for body in bodies}
    return tuple(found.values())
