"""Deliveries and their attempts."""

from quart import Response

from econeura_daemon.api.parameters import EVENT_ID, EVENT_TYPE, SINCE, STATUS, SUBSCRIPTION_ID
from econeura_daemon.api.queries import CURSOR, LIMIT
from econeura_daemon.api.replies import reply, reply_page
from econeura_daemon.api.routing import Answered, Routes, current_query
from econeura_daemon.api.schemas import delivery_with_log, page_of, ref
from econeura_daemon.api.services import services
from econeura_daemon.core.jsons import dumps
from econeura_daemon.server import Scope

routes = Routes("Deliveries")


@routes.add(
    "GET",
    "/v1/webhooks/deliveries",
    scope=Scope.READ,
    query=(STATUS, SUBSCRIPTION_ID, EVENT_ID, EVENT_TYPE, SINCE, LIMIT, CURSOR),
    answers={200: Answered("A page of deliveries.", page_of(ref("Delivery")))},
)
async def list_deliveries() -> Response:
    """List deliveries, newest first."""
    query = current_query()
    page = query.page("/v1/webhooks/deliveries")
    deliveries = await services().deliveries.page(
        status=query[STATUS],
        subscription_id=query[SUBSCRIPTION_ID],
        event_id=query[EVENT_ID],
        event_type=query[EVENT_TYPE],
        since=query[SINCE],
        before=await services().cursors.read(page, query[CURSOR], str),
        limit=query[LIMIT] + 1,
    )
    return await reply_page(
        page,
        deliveries,
        query[LIMIT],
        position=lambda delivery: delivery.id,
        show=lambda delivery: dumps(delivery.to_json()),
    )


@routes.add(
    "GET",
    "/v1/webhooks/deliveries/{id}",
    scope=Scope.READ,
    answers={200: Answered("The delivery, with every attempt, oldest first.", delivery_with_log())},
)
async def get_delivery(key: str) -> Response:
    """Read one delivery, with its attempts."""
    delivery, attempts = await services().deliveries.get(key)
    return reply({**delivery.to_json(), "attemptLog": [attempt.to_json() for attempt in attempts]})


@routes.add(
    "GET",
    "/v1/webhooks/stats",
    scope=Scope.READ,
    answers={
        200: Answered(
            "The numbers.",
            ref("WebhookStats"),
        )
    },
)
async def read_webhook_stats() -> Response:
    """Count subscriptions and deliveries.

    `pendingDeliveries` counts all that are unfinished: pending, delivering and retrying.
    """
    return reply(await services().deliveries.stats())
