"""Webhooks that come in from workers services: no token, a signature."""

from collections.abc import Mapping
from typing import Any

from quart import Response

from econeura_daemon import server
from econeura_daemon.api.context import trace_of
from econeura_daemon.api.hot import Hot, Views, from_quart, read_json
from econeura_daemon.api.queries import Parameter
from econeura_daemon.api.routing import Answered, Routes
from econeura_daemon.api.schemas import BOOLEAN, INSTANT, STRING, maybe, nullable, obj
from econeura_daemon.api.services import Services
from econeura_daemon.core.clock import format_instant
from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.core.jsons import dumps
from econeura_daemon.server import Request
from econeura_daemon.webhooks import (
    InboundEvent,
    MissingHeadersError,
    NoSecretError,
    Received,
    SignatureError,
)
from econeura_daemon.webhooks.inbound import DELIVERY_HEADER, HEADERS

routes = Routes("Inbound webhooks")

PATH, ALIAS = "/v1/workers/webhooks/workers", "/v1/webhooks/workers"

_RECEIVED = maybe(
    obj(
        success=BOOLEAN,
        message=STRING,
        eventType=STRING,
        deliveryId=nullable(STRING),
        timestamp=INSTANT,
        duplicate=BOOLEAN,
    ),
    "duplicate",
)


def _header(name: str, doc: str) -> Parameter[str | None]:
    return Parameter(name=name, read=str, default=None, schema=STRING, doc=doc)


_TERMS: Mapping[str, Any] = {
    "scope": None,
    "body": InboundEvent,
    "headers": (
        _header("webhook-id", "Standard Webhooks: the event's id, which makes it once."),
        _header("webhook-timestamp", "Standard Webhooks: when it was signed, in seconds."),
        _header("webhook-signature", "Standard Webhooks: `v1,<base64>`, several separated by blanks."),
        _header("X-Webhook-Signature", "`sha256=<hex HMAC-SHA256 of the body>`, with `X-Webhook-Event`."),
        _header("X-Webhook-Event", "The event's type; must be the body's."),
        _header("X-Webhook-Delivery", "Given back as `deliveryId`."),
    ),
    "answers": {
        200: Answered("The event is stored, now or before (`duplicate`).", whole=_RECEIVED),
    },
    "problems": (
        "missing-webhook-headers",
        "invalid-signature",
        "no-webhook-secret",
        "internal-error",
        "overloaded",
        "store-full",
        "store-unavailable",
        "outcome-unknown",
    ),
}


@routes.add("POST", PATH, **_TERMS)
async def receive_workers_webhook() -> Response:
    """Take an event from a workers service.

    It needs a signature and no token, and is stored once however often it arrives.
    """
    return await from_quart(_receive)


@routes.add("POST", ALIAS, **_TERMS)
async def receive_webhook() -> Response:
    """Take an event from a workers service: another name of `/v1/workers/webhooks/workers`."""
    return await from_quart(_receive)


async def _receive(on: Services, request: Request) -> server.Response:
    count = on.metrics.webhooks_received.inc
    headers = _headers(request)
    try:
        message_id = on.inbound.verify(headers, request.body)
    except (MissingHeadersError, NoSecretError, SignatureError) as error:
        count(_REFUSED[type(error)])
        raise
    event = read_json(request, InboundEvent)
    received = await on.inbound.take(
        event, headers, request.body, message_id=message_id, trace=trace_of(request.context)
    )
    count("duplicate" if received.duplicate else "stored")
    return server.Response(200, _told(on, event, headers, received), [(b"content-type", b"application/json")])


_REFUSED = {
    MissingHeadersError: "missing_headers",
    NoSecretError: "no_secret",
    SignatureError: "invalid_signature",
}


def _told(on: Services, event: InboundEvent, headers: Mapping[str, str], received: Received) -> bytes:
    told = {
        "success": True,
        "message": "Webhook received successfully",
        "eventType": event.type,
        "deliveryId": headers.get(DELIVERY_HEADER),
        "timestamp": format_instant(on.clock.now()),
    }
    return dumps({**told, "duplicate": True} if received.duplicate else told)


def _headers(request: Request) -> dict[str, str]:
    """Return those that count. One that comes twice could be read in two ways."""
    found = {}
    for name in HEADERS:
        values = request.values(name.encode())
        if len(values) > 1:
            raise InvalidInputError.at(name, "comes more than once")
        if values:
            found[name] = _text(values[0].encode("latin-1"))
    return found


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


HOT: Views = {("POST", PATH): Hot(_receive), ("POST", ALIAS): Hot(_receive)}
