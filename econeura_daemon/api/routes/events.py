"""Publishing events, and reading them back."""

import attrs
from quart import Response

from econeura_daemon import server
from econeura_daemon.api.context import trace_of
from econeura_daemon.api.hot import Hot, Views, from_quart, key_of, read_json, reply_once
from econeura_daemon.api.idempotency import Answer, Deed
from econeura_daemon.api.parameters import EVENT_PATTERN, SINCE, UNTIL
from econeura_daemon.api.queries import CURSOR, LIMIT
from econeura_daemon.api.replies import reply_json, reply_page
from econeura_daemon.api.routing import Answered, Routes, current_query
from econeura_daemon.api.schemas import listed, obj, page_of, ref
from econeura_daemon.api.services import Services, services
from econeura_daemon.core.jsons import dumps, loads
from econeura_daemon.events import PublishBatch, Published, PublishEvent
from econeura_daemon.server import Request, Scope

routes = Routes("Events")

_INGEST_PROBLEMS = ("overloaded", "store-full", "store-unavailable", "outcome-unknown")


def _keep(published: list[Published]) -> bytes:
    """Write down the ids, and what the answer tells of each."""
    return dumps([[one.id, one.deliveries, one.duplicate] for one in published])


def _show_one(kept: bytes) -> bytes:
    [one] = loads(kept)
    return _tell_one([Published(*one)])


def _tell_one(published: list[Published]) -> bytes:
    [one] = published
    shown = {"id": one.id, "deliveries": one.deliveries}
    return dumps({**shown, "duplicate": True} if one.duplicate else shown)


def _show_all(kept: bytes) -> bytes:
    items = [
        {"id": event_id, "deliveries": deliveries, "duplicate": duplicate}
        for event_id, deliveries, duplicate in loads(kept)
    ]
    return dumps({"items": items})


_PUBLISH_ONE: Deed[list[Published]] = Deed(
    status=lambda published: 200 if published[0].duplicate else 202,
    keep=_keep,
    show=_show_one,
    tell=_tell_one,
    limit=None,
)
_PUBLISH_ALL: Deed[list[Published]] = Deed(status=lambda _: 202, keep=_keep, show=_show_all, limit=None)


@routes.add(
    "POST",
    "/v1/events",
    scope=Scope.PUBLISH,
    body=PublishEvent,
    idempotent=True,
    answers={
        202: Answered("The event and its deliveries are committed.", ref("Published")),
        200: Answered("An event with this id is kept already: this one.", ref("PublishedBefore")),
    },
    problems=_INGEST_PROBLEMS,
)
async def publish_event() -> Response:
    """Publish an event.

    With an `id` of the publisher's own, publishing it again while it is kept changes nothing.
    """
    return await from_quart(_publish_event)


@routes.add(
    "POST",
    "/v1/events/batch",
    scope=Scope.PUBLISH,
    body=PublishBatch,
    idempotent=True,
    answers={
        202: Answered(
            "All events and their deliveries are committed, in the order given.",
            obj(
                items=listed(
                    obj(id={"type": "string"}, deliveries={"type": "integer"}, duplicate={"type": "boolean"})
                )
            ),
        )
    },
    problems=_INGEST_PROBLEMS,
)
async def publish_batch() -> Response:
    """Publish 1 to 1000 events, all or none."""
    return await from_quart(_publish_batch)


async def _publish_event(on: Services, request: Request) -> server.Response:
    answer = await _publish(on, request, [read_json(request, PublishEvent)], _PUBLISH_ONE)
    if answer.status == 202:
        return reply_once(answer)
    told = loads(answer.data)
    first = await on.log.get(told["id"])
    return reply_once(attrs.evolve(answer, data=dumps({**loads(first.body), **told})))


async def _publish_batch(on: Services, request: Request) -> server.Response:
    batch = read_json(request, PublishBatch)
    return reply_once(await _publish(on, request, list(batch.events), _PUBLISH_ALL))


async def _publish(
    on: Services, request: Request, commands: list[PublishEvent], deed: Deed[list[Published]]
) -> Answer:
    trace = trace_of(request.context)
    return await on.keys.once(
        key_of(request), deed, lambda also: on.publisher.publish(commands, trace=trace, also=also)
    )


HOT: Views = {
    ("POST", "/v1/events"): Hot(_publish_event),
    ("POST", "/v1/events/batch"): Hot(_publish_batch),
}


@routes.add(
    "GET",
    "/v1/events",
    scope=Scope.READ,
    query=(EVENT_PATTERN, SINCE, UNTIL, LIMIT, CURSOR),
    answers={200: Answered("A page of events.", page_of(ref("Event")))},
)
async def list_events() -> Response:
    """List events, newest first."""
    return await reply_events("/v1/events")


async def reply_events(path: str) -> Response:
    """Answer with a page of the events that the present query asks for, of the list at ``path``."""
    query = current_query()
    page = query.page(path)
    events = await services().log.page(
        type=query[EVENT_PATTERN],
        since=query[SINCE],
        until=query[UNTIL],
        before=await services().cursors.read(page, query[CURSOR], int),
        limit=query[LIMIT] + 1,
    )
    return await reply_page(
        page, events, query[LIMIT], position=lambda event: event.cursor, show=lambda event: event.body
    )


@routes.add(
    "GET",
    "/v1/events/{id}",
    scope=Scope.READ,
    answers={200: Answered("The event.", ref("Event"))},
)
async def get_event(key: str) -> Response:
    """Read one event."""
    return reply_json((await services().log.get(key)).body)


@routes.add(
    "GET",
    "/v1/events/{id}/deliveries",
    scope=Scope.READ,
    query=(LIMIT, CURSOR),
    answers={200: Answered("A page of deliveries.", page_of(ref("Delivery")))},
)
async def list_event_deliveries(key: str) -> Response:
    """List who the event is owed to, and how each delivery stands."""
    query = current_query()
    page = query.page(f"/v1/events/{key}/deliveries")
    before = await services().cursors.read(page, query[CURSOR], str)
    await services().log.get(key)
    deliveries = await services().deliveries.page(event_id=key, before=before, limit=query[LIMIT] + 1)
    return await reply_page(
        page,
        deliveries,
        query[LIMIT],
        position=lambda delivery: delivery.id,
        show=lambda delivery: dumps(delivery.to_json()),
    )
