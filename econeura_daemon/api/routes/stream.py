"""The live tail of the event log."""

import attrs
from quart import Response, request

from econeura_daemon.api.context import request_context
from econeura_daemon.api.parameters import TYPES
from econeura_daemon.api.queries import MAX_LOG_CURSOR, Parameter, integer
from econeura_daemon.api.routing import Answered, Routes, current_query
from econeura_daemon.api.services import services
from econeura_daemon.api.stream import MEDIA_TYPE, EventStream, start_of
from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.server import Scope

routes = Routes("Stream")

AFTER: Parameter[int | None] = Parameter(
    name="after",
    read=lambda text: integer(text, 0, MAX_LOG_CURSOR),
    default=None,
    schema={"type": "integer", "minimum": 0},
    doc="The last cursor that was seen; 0 for all that is kept. Without it: only what comes.",
)


LAST_EVENT_ID: Parameter[int | None] = attrs.evolve(
    AFTER,
    name="Last-Event-ID",
    doc="The last cursor that was seen: what an `EventSource` sends when it comes back. It wins over `after`.",
)


@routes.add(
    "GET",
    "/v1/stream",
    scope=Scope.READ,
    query=(TYPES, AFTER),
    headers=(LAST_EVENT_ID,),
    answers={200: Answered("Server-Sent Events.", media_type=MEDIA_TYPE)},
    problems=("store-unavailable",),
)
async def follow_events() -> Response:
    """Follow events as they are committed.

    `id:` is a growing cursor; `Last-Event-ID` (which wins) or `after` resumes behind one, without gap or
    duplicate. A comment line every 15 s keeps the connection open. `event: lagged` tells where to resume, and
    with `"lost": true` that events in between are not kept any more.
    """
    query = current_query()
    asked = _last_event_id()
    oldest, newest = await services().log.bounds()
    start = start_of(query[AFTER] if asked is None else asked, oldest, newest)
    context = request_context()
    context.long_lived()
    response = Response(
        EventStream(services().log, start, query[TYPES], context.draining), content_type=MEDIA_TYPE
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx holds back what it proxies unless told
    response.timeout = None
    return response


def _last_event_id() -> int | None:
    text = request.headers.get(LAST_EVENT_ID.name)
    if not text:
        return None  # a browser that has seen no id sends an empty one
    try:
        cursor: int = LAST_EVENT_ID.read(text)
    except ValueError as error:
        raise InvalidInputError.at(LAST_EVENT_ID.name, str(error)) from None
    return cursor
