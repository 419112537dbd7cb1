"""What registrants say: the bodies of the API, checked."""

import re
from typing import Any

import attrs

from econeura_daemon.core.jsons import dumps
from econeura_daemon.core.phrases import shortened
from econeura_daemon.core.validators import Validator, between, each, length, matching, optional
from econeura_daemon.registry.model import (
    DEFAULT_WEIGHT,
    DEREGISTER_AFTER_MS,
    Check,
    CheckKind,
    Endpoint,
    Registration,
)
from econeura_daemon.wire.targets import check_url

HOUR_MS = 3600 * 1000
MAX_METADATA_BYTES = 16 * 1024
MAX_ENDPOINTS = 1000
RESERVED_TYPES = ("calls", "default", "faults")
"""Path segments of the mesh's own routes, and its section for all types."""

_SLUG = matching(
    r"[a-z0-9][a-z0-9_-]{0,63}", "1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit"
)
_ID = matching(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", "1 to 128 of A-Z, a-z, 0-9, '_', '.', ':' and '-'")
_LINE = matching(r"[^\x00-\x1f\x7f]{1,128}", "1 to 128 characters, none of them a control character")
_PLACE = matching(r"/[\x21-\x7e]{0,1023}", "a path that begins with / and has no blanks, percent-encoded")
_SCHEME = matching(r"[a-z][a-z0-9+.-]{0,31}", "a scheme such as http, https or postgresql (RFC 3986 3.1)")
_METHOD = matching(r"[A-Z]{1,16}", "a method in capitals, such as GET")
_TAG = matching(r"[^\x00-\x1f\x7f,]{1,128}", "1 to 128 characters, no comma and no control character")


def _check_type(instance: object, field: "attrs.Attribute[Any]", value: str) -> None:
    _SLUG(instance, field, value)
    if value in RESERVED_TYPES:
        raise ValueError(f"{value!r} is reserved and no service type")


def _check_host(_instance: object, _field: object, value: str) -> None:
    if value.startswith("["):
        raise ValueError("an IPv6 address stands here without brackets")
    if re.search(r"[/?#@]", value):
        raise ValueError(f"expected a name or an address alone, got {shortened(value)!r}")
    shown = f"[{value}]" if ":" in value else value
    for flaw in check_url(f"http://{shown}/"):
        raise ValueError(flaw.message)


def _check_metadata(_instance: object, _field: object, value: dict[str, Any]) -> None:
    try:
        size = len(dumps(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"expected at most {MAX_METADATA_BYTES} bytes of JSON, got {size}")


def _both(first: Validator, second: Validator) -> Validator:
    def check(instance: object, field: "attrs.Attribute[Any]", value: Any) -> None:
        first(instance, field, value)
        second(instance, field, value)

    return check


@attrs.frozen(kw_only=True)
class CheckBody:
    """How an instance is probed. Durations in milliseconds."""

    kind: CheckKind = CheckKind.HTTP
    path: str = attrs.field(default="/health", validator=_PLACE)
    interval_ms: int | None = attrs.field(default=None, validator=optional(between(100, HOUR_MS)))
    timeout_ms: int = attrs.field(default=5_000, validator=between(10, HOUR_MS))
    unhealthy_after: int = attrs.field(default=3, validator=between(1, 100))
    healthy_after: int = attrs.field(default=2, validator=between(1, 100))

    def check(self, interval_ms: int) -> Check:
        """Return it as a value; ``interval_ms``: for one that does not say its own."""
        fields = attrs.asdict(self, recurse=False)
        fields["interval_ms"] = self.interval_ms or interval_ms
        return Check(**fields)


@attrs.frozen(kw_only=True)
class EndpointBody:
    """A route that an instance offers."""

    endpoint: str = attrs.field(validator=_PLACE)
    method: str = attrs.field(default="GET", validator=_METHOD)
    description: str = attrs.field(
        default="", validator=matching(r"[^\x00]{0,1000}", "at most 1000 characters")
    )
    requires_auth: bool = False


@attrs.frozen(kw_only=True)
class RegisterService:
    """The body of ``POST /v1/services``. With neither ``ttlMs`` nor ``check`` it is probed at ``/health``."""

    type: str = attrs.field(validator=_check_type)
    host: str = attrs.field(validator=_check_host)
    port: int = attrs.field(validator=between(1, 65535))
    id: str | None = attrs.field(default=None, validator=optional(_ID))
    name: str | None = attrs.field(default=None, validator=optional(_LINE))
    scheme: str = attrs.field(default="http", validator=_SCHEME)
    version: str | None = attrs.field(default=None, validator=optional(_LINE))
    tags: tuple[str, ...] = attrs.field(default=(), validator=_both(length(0, 64), each(_TAG)))
    metadata: dict[str, Any] = attrs.field(factory=dict, validator=_check_metadata)
    weight: int = attrs.field(default=DEFAULT_WEIGHT, validator=between(1, 10_000))
    ttl_ms: int | None = attrs.field(default=None, validator=optional(between(100, 24 * HOUR_MS)))
    check: CheckBody | None = None
    deregister_after_ms: int = attrs.field(
        default=DEREGISTER_AFTER_MS, validator=between(100, 365 * 24 * HOUR_MS)
    )
    endpoints: tuple[EndpointBody, ...] = attrs.field(default=(), validator=length(0, MAX_ENDPOINTS))
    status: Any = None
    """Existing registrants send one; it is ignored."""

    def registration(self, new_id: str, interval_ms: int) -> Registration:
        """Return what is registered.

        ``new_id``: for a body without one; ``interval_ms``: between two probes, for a check that does not say.
        """
        check = self.check
        if check is None and self.ttl_ms is None:
            check = CheckBody()
        key = self.id or new_id
        return Registration(
            id=key,
            name=self.name or key,
            type=self.type,
            host=self.host.lower(),
            port=self.port,
            scheme=self.scheme,
            version=self.version,
            tags=tuple(dict.fromkeys(self.tags)),
            metadata=self.metadata,
            weight=self.weight,
            ttl_ms=self.ttl_ms,
            check=None if check is None else check.check(interval_ms),
            deregister_after_ms=self.deregister_after_ms,
        )


def endpoints_of(bodies: tuple[EndpointBody, ...]) -> tuple[Endpoint, ...]:
    """Return endpoints as values, each method and path once: the last one said counts."""
    found = {(body.method, body.endpoint): Endpoint(**attrs.asdict(body)) for body in bodies}
    return tuple(found.values())
