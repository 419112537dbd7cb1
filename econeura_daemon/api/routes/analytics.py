"""What happened, for those who look at it afterwards."""

from quart import Response

from econeura_daemon.api.parameters import EVENT_PATTERN, SINCE, UNTIL
from econeura_daemon.api.queries import CURSOR, LIMIT
from econeura_daemon.api.routes.events import reply_events
from econeura_daemon.api.routing import Answered, Routes
from econeura_daemon.api.schemas import page_of, ref
from econeura_daemon.server import Scope

routes = Routes("Analytics")


@routes.add(
    "GET",
    "/v1/analytics/events",
    scope=Scope.READ,
    query=(EVENT_PATTERN, SINCE, UNTIL, LIMIT, CURSOR),
    answers={200: Answered("A page of events.", page_of(ref("Event")))},
)
async def list_analytics_events() -> Response:
    """List events, newest first, as `/v1/events` does."""
    return await reply_events("/v1/analytics/events")
