"""Service discovery: who is there, how they are, and word when that changes."""

from functools import lru_cache, partial
from typing import Any

from quart import Response

from econeura_daemon import server
from econeura_daemon.api.bodies import read_body
from econeura_daemon.api.hot import (
    Hot,
    Views,
    enveloped,
    from_quart,
    key_of,
    read_json,
    reply_enveloped,
    reply_once,
)
from econeura_daemon.api.hot import reply as hot_reply
from econeura_daemon.api.idempotency import Deed
from econeura_daemon.api.parameters import (
    DESCRIPTION,
    INDEX,
    METHOD,
    SERVICE_STATUS,
    SERVICE_TYPE,
    TAG,
    WAIT,
)
from econeura_daemon.api.queries import parse_query
from econeura_daemon.api.replies import reply
from econeura_daemon.api.routing import Answered, Routes, current_query
from econeura_daemon.api.schemas import (
    INSTANT,
    STRING,
    listed,
    nullable,
    obj,
    ref,
    values_of,
    whole_list_of,
)
from econeura_daemon.api.services import Services, services
from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.core.instances import EndpointBody, check_endpoints
from econeura_daemon.core.jsons import dumps
from econeura_daemon.registry import Query, Registered, RegisterService
from econeura_daemon.registry.model import Instance, Status
from econeura_daemon.server import Request, Scope

routes = Routes("Services")

_COLLECTION = "/v1/services"
_ONE = "/v1/services/{id}"
_HEARTBEAT = "/v1/services/{id}/heartbeat"
_SWITCHED_OFF = ("not-found",)
_WRITE_PROBLEMS = ("store-full", "store-unavailable", "outcome-unknown")

INDEX_HEADER = "X-Econeura-Index"
_INDEX_DOC = "How far the registry had come: given back as `index` it makes the next call wait."
_LIST_QUERY = (SERVICE_TYPE, SERVICE_STATUS, TAG, INDEX, WAIT)


def _offered(instance: Instance) -> list[dict[str, Any]]:
    return [one.to_json() for one in instance.endpoints]


def _detailed(on: Services, instance: Instance) -> dict[str, Any]:
    """Show one instance: as lists do, and with its endpoints and how its last probe went."""
    last = on.prober.last(instance.id)
    return {
        **on.registry.shown(instance),
        "endpoints": _offered(instance),
        "lastProbe": None if last is None else last.to_json(),
    }


def _keep(registered: Registered) -> bytes:
    instance = registered.instance
    return dumps({**instance.to_json(instance.registered_at), "endpoints": _offered(instance)})


_REGISTRATION: Deed[Registered] = Deed(
    status=lambda registered: 200 if registered.replaced else 201, keep=_keep, show=lambda kept: kept
)


@routes.add(
    "POST",
    _COLLECTION,
    scope=Scope.PUBLISH,
    body=RegisterService,
    idempotent=True,
    answers={
        201: Answered("It is registered.", ref("Service")),
        200: Answered("It is registered in place of the one that had this id.", ref("Service")),
    },
    problems=("conflict", *_SWITCHED_OFF, *_WRITE_PROBLEMS),
)
async def register_service() -> Response:
    """Register an instance, or replace the one of its id.

    With `ttlMs` it promises to renew its lease within that time; with `check` the daemon probes it; with neither
    it is probed over HTTP at `/health`. Replacing keeps a drain, and the verdict if address and check are the same.
    """
    return await from_quart(_register)


async def _register(on: Services, request: Request) -> server.Response:
    command = read_json(request, RegisterService)
    return reply_once(
        await on.keys.once(key_of(request), _REGISTRATION, lambda also: on.registry.register(command, also))
    )


@routes.add(
    "GET",
    _COLLECTION,
    scope=Scope.READ,
    query=_LIST_QUERY,
    answers={
        200: Answered("All that match.", whole_list_of(ref("Service")), headers={INDEX_HEADER: _INDEX_DOC})
    },
    problems=_SWITCHED_OFF,
)
async def list_services() -> Response:
    """List instances, or wait until the list changes.

    The whole list, never paged. Its `X-Econeura-Index`, given back as `index`, makes the call wait until an
    instance that matches is added, changed or removed, or `wait` is over.
    """
    return await from_quart(_list_services)


async def _list_services(on: Services, request: Request) -> server.Response:
    query, index, wait = _asked(request.query)
    together = None
    if index is not None and not on.registry.watches.has_changed(query, index):
        request.context.long_lived()
        together = await on.registry.watch(query, index, wait)
    if together is None:
        at, body = on.lists.of(on.registry, query, partial(_written, on))
    else:
        if together.rendered is None:
            together.rendered = on.lists.of(on.registry, query, partial(_written, on))
        at, body = together.rendered
    return reply_enveloped(body, [(INDEX_HEADER.lower().encode(), b"%d" % at)])


def _written(on: Services, query: Query) -> bytes:
    items = b",".join(map(on.registry.written, on.registry.find(query)))
    return enveloped(on, b'{"items":[%b],"nextCursor":null}' % items)


@lru_cache(maxsize=64)
def _asked(raw: bytes) -> tuple[Query, int | None, float]:
    """Read a query string; those who woke together come back with the same one."""
    asked = parse_query(raw, _LIST_QUERY)
    return Query(asked[SERVICE_TYPE], asked[SERVICE_STATUS], asked[TAG]), asked[INDEX], asked[WAIT]


@routes.add("GET", _ONE, scope=Scope.READ, answers={200: Answered("The instance.", ref("Service"))})
async def get_service(key: str) -> Response:
    """Read one instance."""
    return reply(_detailed(services(), services().registry.get(key)))


@routes.add(
    "DELETE",
    _ONE,
    scope=Scope.PUBLISH,
    answers={200: Answered("It is gone for good.", obj(id=STRING, deregistered={"type": "boolean"}))},
    problems=("conflict", *_WRITE_PROBLEMS),
)
async def deregister_service(key: str) -> Response:
    """Deregister an instance.

    That is final: what is still under way for it, a heartbeat or a probe, does not bring it back.
    """
    await services().registry.deregister(key)
    return reply({"id": key, "deregistered": True})


@routes.add(
    "PUT",
    _HEARTBEAT,
    scope=Scope.PUBLISH,
    answers={
        200: Answered(
            "The lease is renewed.",
            obj(
                id=STRING,
                status=values_of(Status),
                ttlMs=nullable({"type": "integer"}),
                lastHeartbeat=INSTANT,
            ),
        )
    },
)
async def renew_service(key: str) -> Response:  # noqa: ARG001 - the hot route reads it from the path
    """Renew an instance's lease.

    404 tells the registrant to register again. Without a lease it changes nothing. A body is not looked at.
    """
    return await from_quart(_renew)


async def _renew(on: Services, request: Request) -> server.Response:
    key = request.path.split("/")[3]
    return hot_reply(on, dumps(on.registry.renew(key)))


@routes.add(
    "PUT",
    "/v1/services/{id}/drain",
    scope=Scope.ADMIN,
    answers={200: Answered("It is in maintenance.", ref("Service"))},
    problems=_WRITE_PROBLEMS,
)
async def drain_service(key: str) -> Response:
    """Begin maintenance: the instance finishes what it began and gets nothing new."""
    on = services()
    return reply(_detailed(on, await on.registry.drain(key, draining=True)))


@routes.add(
    "DELETE",
    "/v1/services/{id}/drain",
    scope=Scope.ADMIN,
    answers={200: Answered("It is in service again.", ref("Service"))},
    problems=_WRITE_PROBLEMS,
)
async def undrain_service(key: str) -> Response:
    """End maintenance: the instance's lease and check count again."""
    on = services()
    return reply(_detailed(on, await on.registry.drain(key, draining=False)))


@routes.add(
    "GET",
    "/v1/services/{id}/endpoints",
    scope=Scope.READ,
    answers={200: Answered("What the instance offers.", listed(ref("Endpoint")))},
)
async def get_endpoints(key: str) -> Response:
    """List the routes that an instance offers."""
    return reply(_offered(services().registry.get(key)))


@routes.add(
    "PUT",
    "/v1/services/{id}/endpoints",
    scope=Scope.PUBLISH,
    body=tuple[EndpointBody, ...],
    answers={200: Answered("What the instance offers now.", listed(ref("Endpoint")))},
    problems=("conflict", *_WRITE_PROBLEMS),
)
async def put_endpoints(key: str) -> Response:
    """Replace the routes that an instance offers."""
    bodies: tuple[EndpointBody, ...] = await read_body(tuple[EndpointBody, ...])
    try:
        check_endpoints(bodies)
    except ValueError as error:
        raise InvalidInputError.at("$", str(error)) from None
    instance = await services().registry.put_endpoints(key, bodies)
    return reply(_offered(instance))


@routes.add(
    "GET",
    "/v1/endpoints",
    scope=Scope.READ,
    query=(DESCRIPTION, METHOD, SERVICE_TYPE),
    answers={200: Answered("All that match.", whole_list_of(ref("FoundEndpoint")))},
    problems=_SWITCHED_OFF,
)
async def find_endpoints() -> Response:
    """Find an endpoint over all instances."""
    query = current_query()
    found = services().registry.find_endpoints(
        description=query[DESCRIPTION], method=query[METHOD], type=query[SERVICE_TYPE]
    )
    items = [
        {
            "serviceId": one.instance.id,
            "type": one.instance.type,
            "status": one.instance.status.value,
            **one.endpoint.to_json(),
        }
        for one in found
    ]
    return reply({"items": items, "nextCursor": None})


@routes.add(
    "GET",
    "/v1/discovery/stats",
    scope=Scope.READ,
    answers={200: Answered("Counts.", ref("DiscoveryStats"))},
    problems=_SWITCHED_OFF,
)
async def read_discovery_stats() -> Response:
    """Count instances by status and type."""
    return reply(services().registry.stats())


HOT: Views = {
    ("POST", _COLLECTION): Hot(_register),
    ("GET", _COLLECTION): Hot(_list_services, takes_query=True, waits=True),
    ("PUT", _HEARTBEAT): Hot(_renew),
}
