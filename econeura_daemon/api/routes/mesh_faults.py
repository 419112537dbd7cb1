"""Faults that operators inject into calls of services."""

import logging
from datetime import timedelta
from typing import Any

import trio
from quart import Response

from econeura_daemon.api.bodies import read_body
from econeura_daemon.api.context import request_context
from econeura_daemon.api.replies import reply
from econeura_daemon.api.routes.mesh import TYPE, routes
from econeura_daemon.api.routing import Answered, current_query
from econeura_daemon.api.schemas import (
    BOOLEAN,
    COUNT,
    INSTANT,
    MS,
    NUMBER,
    STRING,
    nullable,
    obj,
    whole_list_of,
)
from econeura_daemon.api.services import services
from econeura_daemon.client import Fault, FaultBody
from econeura_daemon.core.clock import format_instant
from econeura_daemon.server import Scope

__all__ = ["routes"]

log = logging.getLogger(__name__)

_PATH = "/v1/mesh/faults"
_FAULT = obj(
    type=STRING,
    serviceId=nullable(STRING),
    percent=NUMBER,
    delayMs=MS,
    abortStatus=nullable(COUNT),
    drop=BOOLEAN,
    until=INSTANT,
)


@routes.add(
    "GET",
    _PATH,
    scope=Scope.READ,
    problems=("not-found",),
    answers={200: Answered("Those that are injected now.", whole_list_of(_FAULT))},
)
async def list_faults() -> Response:
    """List the faults that are injected into calls."""
    return reply({"items": [_shown(one) for one in services().mesh.faults.live()], "nextCursor": None})


@routes.add(
    "PUT",
    _PATH,
    scope=Scope.ADMIN,
    body=FaultBody,
    problems=("not-found",),
    answers={200: Answered("It is injected from now on.", _FAULT)},
)
async def inject_fault() -> Response:
    """Inject a fault into a part of the attempts to call a service, or one of its instances.

    It replaces the one for the same, and ends by itself.
    """
    fault = services().mesh.faults.put(await read_body(FaultBody))
    shown = _shown(fault)
    log.warning("faults are injected by %s: %s", request_context().principal.name, shown)
    return reply(shown)


@routes.add(
    "DELETE",
    _PATH,
    scope=Scope.ADMIN,
    query=(TYPE,),
    problems=("not-found",),
    answers={200: Answered("How many there were.", obj(removed=COUNT))},
)
async def remove_faults() -> Response:
    """End all faults, or those of a service."""
    return reply({"removed": services().mesh.faults.remove(current_query()[TYPE])})


def _shown(fault: Fault) -> dict[str, Any]:
    wish = fault.wish
    until = services().clock.now() + timedelta(seconds=fault.until - trio.current_time())
    return {
        "type": wish.type,
        "serviceId": wish.service_id,
        "percent": wish.percent,
        "delayMs": wish.delay_ms,
        "abortStatus": wish.abort_status,
        "drop": wish.drop,
        "until": format_instant(until),
    }
