"""What is said of an instance, by its registrant or by the configuration: the same words, checked in the same way."""

import enum
import re
from collections.abc import Sequence
from typing import Any

import attrs

from econeura_daemon.core.hosts import host_flaw
from econeura_daemon.core.jsons import MAX_DEPTH, dumps, loads
from econeura_daemon.core.phrases import shortened
from econeura_daemon.core.validators import Validator, between, each, length, matching, optional

HOUR_MS = 3600 * 1000
DEFAULT_WEIGHT = 100
MAX_PROBE_MS = 60_000
"""Of one probe: while it waits it holds one of `discovery.max_probes`, and others wait behind it."""
MAX_METADATA_BYTES = 16 * 1024
MAX_ENDPOINTS = 1000
MAX_ENDPOINTS_LENGTH = 128 * 1024
"""Characters of all of an instance's endpoints together."""
RESERVED_TYPES = ("calls", "default", "faults")
"""Path segments of the mesh's own routes, and its section for all types."""
OWN_ID = "api-main"
"""Of the daemon itself."""
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
TYPE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

check_slug = matching(TYPE.pattern, "1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit")
_check_id = matching(
    ID.pattern, "1 to 128 of A-Z, a-z, 0-9, '_', '.', ':' and '-', beginning with a letter or digit"
)
_check_line = matching(r"[^\x00-\x1f\x7f]{1,128}", "1 to 128 characters, none of them a control character")
_check_path = matching(
    r"/[\x21-\x7e]{0,1023}", "a path that begins with / and has no blanks, percent-encoded"
)
_check_scheme = matching(
    r"[a-z][a-z0-9+.-]{0,31}", "a scheme such as http, https or postgresql (RFC 3986 3.1)"
)
_check_method = matching(r"[A-Z]{1,16}", "a method in capitals, such as GET")
_check_tag = matching(r"[^\x00-\x1f\x7f,]{1,128}", "1 to 128 characters, no comma and no control character")


def check_type(instance: object, field: "attrs.Attribute[Any]", value: str) -> None:
    """Validate the name of a service."""
    check_slug(instance, field, value)
    if value in RESERVED_TYPES:
        raise ValueError(f"{value!r} is reserved and no service type")


def check_host(_instance: object, _field: object, value: str) -> None:
    """Validate a name or an address, which stands alone."""
    if value.startswith("["):
        raise ValueError("an IPv6 address stands here without brackets")
    if not value or re.search(r"[/?#@]", value):
        raise ValueError(f"expected a name or an address alone, got {shortened(value)!r}")
    if re.fullmatch(r"[^:]+:[0-9]+", value):
        raise ValueError(f"expected a host without a port, got {shortened(value)!r}")
    flaw = host_flaw(value.lower())  # it is registered so: IDNA 2008 knows no capitals
    if flaw is not None:
        raise ValueError(flaw)


def _check_metadata(_instance: object, _field: object, value: dict[str, Any]) -> None:
    try:
        written = dumps(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    if len(written) > MAX_METADATA_BYTES:
        raise ValueError(f"expected at most {MAX_METADATA_BYTES} bytes of JSON, got {len(written)}")
    # It is read again as a part of what is registered, one level down.
    if value and loads(written, max_depth=MAX_DEPTH - 1) != value:
        raise ValueError("expected what JSON can hold: no dates, no times, neither nan nor inf")


def _both(first: Validator, second: Validator) -> Validator:
    def check(instance: object, field: "attrs.Attribute[Any]", value: Any) -> None:
        first(instance, field, value)
        second(instance, field, value)

    return check


class CheckKind(enum.StrEnum):
    """How an instance is probed."""

    HTTP = "http"
    TCP = "tcp"


@attrs.frozen(kw_only=True)
class CheckBody:
    """How an instance is probed. Durations in milliseconds."""

    kind: CheckKind = CheckKind.HTTP
    path: str = attrs.field(default="/health", validator=_check_path)
    interval_ms: int | None = attrs.field(default=None, validator=optional(between(100, HOUR_MS)))
    timeout_ms: int = attrs.field(default=5_000, validator=between(10, MAX_PROBE_MS))
    unhealthy_after: int = attrs.field(default=3, validator=between(1, 100))
    healthy_after: int = attrs.field(default=2, validator=between(1, 100))


@attrs.frozen(kw_only=True)
class EndpointBody:
    """A route that an instance offers."""

    endpoint: str = attrs.field(validator=_check_path)
    method: str = attrs.field(default="GET", validator=_check_method)
    description: str = attrs.field(
        default="", validator=matching(r"[^\x00]{0,1000}", "at most 1000 characters")
    )
    requires_auth: bool = False


def check_endpoints(value: Sequence[EndpointBody]) -> None:
    """Return if an instance may say so much of what it offers. Raises ValueError."""
    if len(value) > MAX_ENDPOINTS:
        raise ValueError(f"expected 0 to {MAX_ENDPOINTS} items, got {len(value)}")
    size = sum(len(one.method) + len(one.endpoint) + len(one.description) for one in value)
    if size > MAX_ENDPOINTS_LENGTH:
        raise ValueError(
            f"expected at most {MAX_ENDPOINTS_LENGTH} characters in all of the endpoints, got {size}"
        )


@attrs.frozen(kw_only=True)
class InstanceBody:
    """What everybody may say of an instance."""

    type: str = attrs.field(validator=check_type)
    host: str = attrs.field(validator=check_host)
    port: int = attrs.field(validator=between(1, 65535))
    id: str | None = attrs.field(default=None, validator=optional(_check_id))
    name: str | None = attrs.field(default=None, validator=optional(_check_line))
    scheme: str = attrs.field(default="http", validator=_check_scheme)
    version: str | None = attrs.field(default=None, validator=optional(_check_line))
    tags: tuple[str, ...] = attrs.field(default=(), validator=_both(length(0, 64), each(_check_tag)))
    metadata: dict[str, Any] = attrs.field(factory=dict, validator=_check_metadata)
    weight: int = attrs.field(default=DEFAULT_WEIGHT, validator=between(1, 10_000))
    check: CheckBody | None = None
    endpoints: tuple[EndpointBody, ...] = attrs.field(
        default=(), validator=lambda _instance, _field, value: check_endpoints(value)
    )
