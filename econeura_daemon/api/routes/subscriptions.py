"""Subscriptions: who is told of what."""

from typing import Any

from quart import Response

from econeura_daemon.api.bodies import idempotency_key, read_body, read_patch
from econeura_daemon.api.hot import reply_once, to_quart
from econeura_daemon.api.idempotency import Deed
from econeura_daemon.api.queries import CURSOR, LIMIT
from econeura_daemon.api.replies import reply, reply_page
from econeura_daemon.api.routing import Answered, Routes, current_query
from econeura_daemon.api.schemas import BOOLEAN, STRING, obj, page_of, ref
from econeura_daemon.api.services import services
from econeura_daemon.core.jsons import dumps
from econeura_daemon.server import Scope
from econeura_daemon.webhooks import CreateSubscription, SubscriptionBody, Subscriptions, subscription_json
from econeura_daemon.webhooks.model import Subscription

routes = Routes("Subscriptions")

_COLLECTION = "/v1/webhooks/subscriptions"
_ONE = "/v1/webhooks/subscriptions/{id}"
_WRITE_PROBLEMS = ("store-full", "store-unavailable", "outcome-unknown")


def _creation(subscriptions: Subscriptions) -> Deed[Subscription]:
    def keep(subscription: Subscription) -> bytes:
        secret = subscriptions.secret_of(subscription)
        return dumps(_shown(subscription, subscriptions, reveal=secret))

    return Deed(status=lambda _: 201, keep=keep, show=lambda kept: kept)


@routes.add(
    "POST",
    _COLLECTION,
    scope=Scope.ADMIN,
    body=CreateSubscription,
    idempotent=True,
    answers={
        201: Answered("The subscription; its secret is shown here and never again.", ref("Subscription"))
    },
    problems=_WRITE_PROBLEMS,
)
async def create_subscription() -> Response:
    """Subscribe a URL to event types.

    `workers.*` matches at any depth below `workers`, not `workers` itself; `*` matches all.
    """
    command = await read_body(CreateSubscription)
    key = await idempotency_key()
    subscriptions = services().subscriptions
    answer = await services().keys.once(
        key, _creation(subscriptions), lambda also: subscriptions.create(command, also=also)
    )
    return to_quart(reply_once(answer))


@routes.add(
    "GET",
    _COLLECTION,
    scope=Scope.READ,
    query=(LIMIT, CURSOR),
    answers={200: Answered("A page of subscriptions.", page_of(ref("Subscription")))},
)
async def list_subscriptions() -> Response:
    """List subscriptions, newest first."""
    query = current_query()
    page = query.page(_COLLECTION)
    before = await services().cursors.read(page, query[CURSOR], str)
    subscriptions = await services().subscriptions.page(before, query[LIMIT] + 1)
    return await reply_page(
        page,
        subscriptions,
        query[LIMIT],
        position=lambda one: one.id,
        show=lambda one: dumps(subscription_json(one)),
    )


@routes.add("GET", _ONE, scope=Scope.READ, answers={200: Answered("The subscription.", ref("Subscription"))})
async def get_subscription(key: str) -> Response:
    """Read one subscription."""
    return reply(subscription_json(await services().subscriptions.get(key)))


@routes.add(
    "PATCH",
    _ONE,
    scope=Scope.ADMIN,
    patch=SubscriptionBody,
    answers={200: Answered("The subscription as it is now.", ref("Subscription"))},
    problems=_WRITE_PROBLEMS,
)
async def patch_subscription(key: str) -> Response:
    """Change what is given and leave the rest (RFC 7396: null takes a member back to its default).

    `"active": false` holds what is pending and makes nothing new.
    """
    changes = await read_patch()
    subscriptions = services().subscriptions
    return reply(_shown(await subscriptions.patch(key, changes), subscriptions))


@routes.add(
    "DELETE",
    _ONE,
    scope=Scope.ADMIN,
    answers={200: Answered("It is gone; what was pending is canceled.", obj(id=STRING, deleted=BOOLEAN))},
    problems=_WRITE_PROBLEMS,
)
async def delete_subscription(key: str) -> Response:
    """Delete a subscription and cancel what is pending."""
    await services().subscriptions.delete(key)
    return reply({"id": key, "deleted": True})


def _shown(
    subscription: Subscription, subscriptions: Subscriptions, *, reveal: str | None = None
) -> dict[str, Any]:
    """Show it to whoever just wrote it: with what will keep deliveries from arriving, if that can be seen."""
    shown = subscription_json(subscription, reveal=reveal)
    warnings = subscriptions.warnings(subscription)
    return {**shown, "warnings": warnings} if warnings else shown
