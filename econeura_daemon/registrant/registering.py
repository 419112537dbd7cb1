"""`registered`: the block for whose length a service is in the registry."""

import json
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any, NotRequired, TypedDict

import anyio

from econeura_daemon.registrant.connection import Contact, MakeTransport
from econeura_daemon.registrant.errors import RefusedError
from econeura_daemon.registrant.service import Service

TTL = 30.0
"""Seconds: three heartbeat intervals of the daemon's own."""
START_TIMEOUT = 5.0
TTLS = (0.1, 86_400.0)
"""Seconds: the leases that the daemon grants."""

_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_.:-]")


class Check(TypedDict):
    """How the daemon probes the instance, beside its lease; as in ``POST /v1/services``."""

    kind: NotRequired[str]
    path: NotRequired[str]
    intervalMs: NotRequired[int]
    timeoutMs: NotRequired[int]
    unhealthyAfter: NotRequired[int]
    healthyAfter: NotRequired[int]


class Endpoint(TypedDict):
    """A route that the instance offers; as in ``POST /v1/services``."""

    endpoint: str
    method: NotRequired[str]
    description: NotRequired[str]
    requiresAuth: NotRequired[bool]


@asynccontextmanager
async def registered(
    service_type: str,
    host: str,
    port: int,
    *,
    instance_id: str | None = None,
    name: str | None = None,
    scheme: str | None = None,
    version: str | None = None,
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    weight: int | None = None,
    endpoints: Iterable[Endpoint] = (),
    check: Check | None = None,
    ttl: float = TTL,
    deregister_after: float | None = None,
    start_timeout: float = START_TIMEOUT,
    url: str | None = None,
    token: str | None = None,
    transport: MakeTransport | None = None,
    rng: Random | None = None,
) -> AsyncGenerator[Service]:
    """Keep an instance of ``service_type`` at ``host:port`` registered for the length of the block.

    Its lease of ``ttl`` seconds is renewed three times a lease; it is registered again when the daemon does not know it
    any more, and deregistered when the block is left, also by an exception or by cancellation, which takes 10 s at
    most. Within the block nothing of this ever raises: a daemon that is down, restarts or refuses is asked again, at
    growing intervals, and `Service.last_error` and the log tell why.

    The block begins as soon as the instance is registered, and after ``start_timeout`` seconds in any case; 0: at once.
    A daemon that refuses within that time is a `RefusedError`; an address or a token that cannot be right is a
    `ConfigurationError`; a ``ttl`` that no daemon grants (0.1 s to a day) is a ValueError.

    ``instance_id`` is made of type, host and port if not given: a service that starts anew at its address replaces
    what it left. ``url``, ``token``: else ``ECONEURA_URL``, ``ECONEURA_TOKEN`` or ``ECONEURA_TOKEN_FILE``, else the
    daemon of this machine is found as the command line finds it. ``deregister_after``: seconds after which an
    unhealthy instance is removed. ``transport`` makes what requests go through, for a certificate authority of one's
    own.
    """
    if not TTLS[0] <= ttl <= TTLS[1]:
        raise ValueError(f"ttl: expected {TTLS[0]:g} to {TTLS[1]:g} seconds, got {ttl!r}")
    said = {
        "type": service_type,
        "host": host,
        "port": port,
        "id": instance_id or _NOT_IN_AN_ID.sub("-", f"{service_type}:{host}:{port}"),
        "name": name,
        "scheme": scheme,
        "version": version,
        "tags": list(tags),
        "metadata": metadata,
        "weight": weight,
        "endpoints": list(endpoints),
        "check": check,
        "ttlMs": round(ttl * 1000),
        "deregisterAfterMs": None if deregister_after is None else round(deregister_after * 1000),
    }
    registration = {key: value for key, value in said.items() if value is not None}
    json.dumps(registration, allow_nan=False)  # what is no JSON is told here, not in the log
    contact = Contact(url=url, token=token, transport=transport)
    contact.check()
    service = Service(contact, registration, ttl=ttl, rng=rng or Random())  # noqa: S311 - spreads, hides nothing
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.run)
            with anyio.move_on_after(start_timeout):
                await service.spoken.wait()
            if start_timeout > 0 and isinstance(service.last_error, RefusedError):
                failure = service.last_error
            else:
                try:
                    yield service
                except (anyio.get_cancelled_exc_class(), GeneratorExit):
                    raise
                except BaseException as error:  # noqa: BLE001 - the group would put it into an ExceptionGroup
                    failure = error
            tasks.cancel_scope.cancel()
    finally:
        if failure is not None:
            raise failure
