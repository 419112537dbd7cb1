"""The mesh: how services are called, and how the calls fare. Calling them is `api.gateway`'s."""

import re
from collections.abc import Callable
from itertools import islice
from typing import Any

import trio
from quart import Response

from econeura_daemon.api.queries import LIMIT, Parameter, integer
from econeura_daemon.api.replies import reply
from econeura_daemon.api.routes.mesh_terms import FAULT, TYPE, fault_shown, instants, routes
from econeura_daemon.api.routing import Answered, current_query
from econeura_daemon.api.schemas import (
    BOOLEAN,
    COUNT,
    INSTANT,
    MS,
    NUMBER,
    STRING,
    listed,
    nullable,
    obj,
    values_of,
    whole_list_of,
)
from econeura_daemon.api.services import services
from econeura_daemon.client import Called, InstanceState, Service
from econeura_daemon.core.phrases import shortened
from econeura_daemon.primitives import CircuitBreaker
from econeura_daemon.registry.model import Status
from econeura_daemon.server import PROBLEMS, Scope

__all__ = ["routes"]

_BREAKER = obj(
    state={"type": "string", "enum": ["closed", "open", "half_open"]}, reason=STRING, until=nullable(INSTANT)
)
_POLICY = obj(
    timeoutMs=MS,
    tryTimeoutMs=MS,
    retries=COUNT,
    circuitBreakerThreshold=COUNT,
    circuitBreakerOpenMs=MS,
    maxConcurrency=COUNT,
    maxWaiting=COUNT,
    balancer=STRING,
    allow=listed(STRING),
)
_INSTANCE = obj(
    id=STRING,
    status=values_of(Status),
    weight=COUNT,
    inFlight=COUNT,
    limit=COUNT,
    latencyMs=NUMBER,
    ejectedUntil=nullable(INSTANT),
    ejectionReason=nullable(STRING),
    breaker=_BREAKER,
)
_SERVICE = obj(
    type=STRING,
    policy=_POLICY,
    panic=BOOLEAN,
    inFlight=COUNT,
    queued=COUNT,
    budget=obj(calls=COUNT, retries=COUNT, retriesInFlight=COUNT, refusal=nullable(STRING)),
    totals=obj(requests=COUNT, failures=COUNT, retries=COUNT, refusals=COUNT),
    breaker=_BREAKER,
    faults=listed(FAULT),
    instances=listed(_INSTANCE),
)


_CALL = obj(
    id=STRING,
    type=STRING,
    method=STRING,
    path=STRING,
    startedAt=INSTANT,
    durationMs=NUMBER,
    status=nullable(COUNT),
    problem=nullable(STRING),
    traceId=nullable(STRING),
    attempts=listed(obj(serviceId=STRING, outcome=STRING, durationMs=NUMBER)),
)


_STATUS = re.compile(r"[1-5][0-9]{2}")


def _status(text: str) -> str:
    if _STATUS.fullmatch(text) is None and text not in PROBLEMS:
        raise ValueError(f"expected a status such as 503 or the slug of a problem, got {shortened(text)!r}")
    return text


def _slow(text: str) -> int:
    return integer(text, 0, 3_600_000)


STATUS: Parameter[str | None] = Parameter(
    name="status",
    read=_status,
    default=None,
    schema=STRING,
    doc="Answered with this status, or failed with this slug of a problem.",
)
SLOW: Parameter[int] = Parameter(
    name="slowMs",
    read=_slow,
    default=0,
    schema=MS,
    doc="That took at least so long, to the head of the answer.",
)


@routes.add(
    "GET",
    "/v1/mesh/calls",
    scope=Scope.READ,
    query=(TYPE, STATUS, SLOW, LIMIT),
    problems=("not-found",),
    answers={200: Answered("The newest first.", whole_list_of(_CALL))},
)
async def list_calls() -> Response:
    """List the last calls: the daemon keeps a thousand, in memory.

    `durationMs` is to the head of the answer; the query of a path is not kept.
    """
    query = current_query()
    asked, status, slow = query[TYPE], query[STATUS], query[SLOW] / 1000
    at = instants(trio.current_time())
    found = (
        one
        for one in services().mesh.recent
        if (asked is None or one.service == asked)
        and (status is None or status in {str(one.status), one.problem})
        and one.seconds >= slow
    )
    return reply({"items": [_call(one, at) for one in islice(found, query[LIMIT])], "nextCursor": None})


def _call(one: Called, at: Callable[[float | None], str | None]) -> dict[str, Any]:
    return {
        "id": one.id,
        "type": one.service,
        "method": one.method,
        "path": one.path,
        "startedAt": at(one.at),
        "durationMs": round(one.seconds * 1000, 3),
        "status": one.status,
        "problem": one.problem,
        "traceId": one.trace_id,
        "attempts": [
            {
                "serviceId": made.service_id,
                "outcome": str(made.outcome),
                "durationMs": round(made.seconds * 1000, 3),
            }
            for made in one.attempts
        ],
    }


@routes.add(
    "GET",
    "/v1/mesh",
    scope=Scope.READ,
    query=(TYPE,),
    problems=("not-found",),
    answers={
        200: Answered("Every service that has instances which speak HTTP.", obj(items=listed(_SERVICE)))
    },
)
async def read_mesh() -> Response:
    """Tell how services are called: policies, breakers, limits, who is ejected and why.

    `limit` and `latencyMs` are what the calls taught; a failure adds a second to the latency, for a while.
    """
    asked = current_query()[TYPE]
    known = services().registry.snapshot().types
    names = sorted(known) if asked is None else [asked]
    found = (services().mesh.show(name) for name in names)
    return reply({"items": [_shown(one) for one in found if one is not None and one.states]})


def _shown(service: Service) -> dict[str, Any]:
    now = trio.current_time()
    at = instants(now)
    mesh = services().mesh
    budget = service.budget.statistics()
    totals = service.totals
    return {
        "type": service.name,
        "policy": {**service.policy.to_json(), "allow": list(mesh.allow_list(service.name).entries)},
        "panic": service.is_panic,
        "inFlight": budget.calls_in_flight,
        "queued": sum(one.limiter.tasks_waiting for one in service.states.values()),
        "budget": {
            "calls": budget.calls,
            "retries": budget.retries,
            "retriesInFlight": budget.retries_in_flight,
            "refusal": None if budget.refusal is None else budget.refusal.reason,
        },
        "totals": {
            "requests": totals.requests,
            "failures": totals.failures,
            "retries": totals.retries,
            "refusals": totals.refusals,
        },
        "breaker": _breaker(service.breaker, at),
        "faults": [fault_shown(one) for one in mesh.faults.live_for(service.name)],
        "instances": [_instance(service, one, now, at) for _, one in sorted(service.states.items())],
    }


def _instance(
    service: Service, one: InstanceState, now: float, at: Callable[[float | None], str | None]
) -> dict[str, Any]:
    ejection = service.ejector.refusal(one.instance.id, now)
    return {
        "id": one.instance.id,
        "status": one.instance.status.value,
        "weight": one.instance.registration.weight,
        "inFlight": one.limiter.borrowed,
        "limit": one.limiter.limit,
        "latencyMs": round(service.roster.latency(one.member, now) * 1000, 3),
        "ejectedUntil": None if ejection is None else at(ejection.until),
        "ejectionReason": None if ejection is None else ejection.reason,
        "breaker": _breaker(one.breaker, at),
    }


def _breaker(breaker: CircuitBreaker, at: Callable[[float | None], str | None]) -> dict[str, Any]:
    found = breaker.statistics()
    return {"state": found.state.name.lower(), "reason": found.reason, "until": at(found.until)}
