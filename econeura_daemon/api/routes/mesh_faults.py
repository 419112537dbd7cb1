"""Faults that operators inject into calls of services."""

import logging

from quart import Response

from econeura_daemon.api.bodies import read_body
from econeura_daemon.api.context import request_context
from econeura_daemon.api.replies import reply
from econeura_daemon.api.routes.mesh import routes
from econeura_daemon.api.routes.mesh_terms import FAULT, TYPE, fault_shown
from econeura_daemon.api.routing import Answered, current_query
from econeura_daemon.api.schemas import COUNT, obj, whole_list_of
from econeura_daemon.api.services import services
from econeura_daemon.client import FaultBody
from econeura_daemon.server import Scope

__all__ = ["routes"]

log = logging.getLogger(__name__)

_PATH = "/v1/mesh/faults"
_REMOVED = obj(removed=COUNT, kept=COUNT)


@routes.add(
    "GET",
    _PATH,
    scope=Scope.READ,
    problems=("not-found",),
    answers={200: Answered("Those that are injected now.", whole_list_of(FAULT))},
)
async def list_faults() -> Response:
    """List the faults that are injected into calls."""
    return reply({"items": [fault_shown(one) for one in services().mesh.faults.live()], "nextCursor": None})


@routes.add(
    "PUT",
    _PATH,
    scope=Scope.ADMIN,
    body=FaultBody,
    problems=("not-found",),
    answers={200: Answered("It is injected from now on.", FAULT)},
)
async def inject_fault() -> Response:
    """Inject a fault into a part of the attempts to call a service, or one of its instances.

    It replaces the one for the same, goes before the configuration's, and ends by itself. A `percent` of 0 is none.
    """
    fault = services().mesh.faults.put(await read_body(FaultBody))
    shown = fault_shown(fault)
    log.warning("faults are injected by %s: %s", request_context().principal.name, shown)
    return reply(shown)


@routes.add(
    "DELETE",
    _PATH,
    scope=Scope.ADMIN,
    query=(TYPE,),
    problems=("not-found",),
    answers={200: Answered("How many ended, and how many stand in the configuration.", _REMOVED)},
)
async def remove_faults() -> Response:
    """End all faults, or those of a service, but for the configuration's, which end when they are taken out of it."""
    asked, faults = current_query()[TYPE], services().mesh.faults
    removed = faults.remove(asked)
    kept = faults.live() if asked is None else faults.live_for(asked)
    return reply({"removed": removed, "kept": len(kept)})
