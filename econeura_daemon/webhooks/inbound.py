"""What workers services send in, signed: verified on the bytes that came, stored once however often they come.

Whoever holds ``webhooks.secret`` is believed to be a workers service, and a workers service speaks of itself
alone: types below ``workers``. Everything that counts stands in what was signed; of the headers beside it
``X-Webhook-Event`` may only agree, and ``X-Webhook-Delivery`` is given back and no more.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import EconeuraError, InvalidInputError, NotFoundError
from econeura_daemon.core.jsons import loads
from econeura_daemon.core.phrases import shortened
from econeura_daemon.core.validators import length, optional
from econeura_daemon.events import Event, EventLog, Publisher, PublishEvent
from econeura_daemon.events.model import check_type, is_event_id
from econeura_daemon.webhooks.policies import Policies
from econeura_daemon.webhooks.signing import (
    ECONEURA_HEADER,
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    SignatureError,
    verify,
)

SOURCE = "workers"
"""Of an event that does not name its own."""
PREFIX = "workers."

EVENT_HEADER = "x-webhook-event"
DELIVERY_HEADER = "x-webhook-delivery"
HEADERS = (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER, ECONEURA_HEADER, EVENT_HEADER, DELIVERY_HEADER)
"""All that are looked at."""

_STANDARD = {ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER}
_ECONEURA = {ECONEURA_HEADER, EVENT_HEADER}


class MissingHeadersError(EconeuraError):
    """A request bears neither kind of signature with what belongs to it."""


class NoSecretError(EconeuraError):
    """There is no secret to verify with."""


def _check_type(instance: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    check_type(instance, attribute, value)
    if not value.startswith(PREFIX):
        raise ValueError(
            f"expected a type below {PREFIX[:-1]!r}, got {value!r}; "
            "what is not a workers service's own is published at /v1/events"
        )


@attrs.frozen(kw_only=True)
class InboundEvent(PublishEvent):
    """The body that came: an event as its sender has it."""

    type: str = attrs.field(validator=_check_type)
    source: str = attrs.field(default=SOURCE, validator=attrs.fields(PublishEvent).source.validator)
    id: str | None = attrs.field(default=None, validator=optional(length(1, 256)))
    timestamp: datetime | None = None


@attrs.frozen
class Received:
    """What became of one request."""

    event_id: str
    duplicate: bool


class Inbound:
    """Judges what comes in and has it stored, by the settings in force."""

    def __init__(self, publisher: Publisher, log: EventLog, policies: Policies, clock: Clock) -> None:
        self._publisher = publisher
        self._log = log
        self._policies = policies
        self._clock = clock

    def verify(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Return the message's id if a signature covers it, None if one covers the body alone.

        ``headers``: those of `HEADERS` that came, names in lower case. Raises `MissingHeadersError`,
        `NoSecretError`, `SignatureError`.
        """
        if not (headers.keys() >= _STANDARD or headers.keys() >= _ECONEURA):
            raise MissingHeadersError(
                "Expected webhook-id, webhook-timestamp and webhook-signature (Standard Webhooks), "
                "or X-Webhook-Signature and X-Webhook-Event"
            )
        settings = self._policies.settings
        if settings.secret is None:
            raise NoSecretError(
                "Nothing can be verified: set webhooks.secret (WEBHOOK_SECRET) to the secret that workers sign with"
            )
        vouched = verify(
            (settings.secret,),
            headers,
            body,
            now_ms=to_ms(self._clock.now()),
            tolerance_ms=settings.tolerance_ms,
        )
        if vouched.scheme != "standard":
            return None
        if "." in headers[ID_HEADER]:
            # What is signed is "{id}.{timestamp}.{body}": with a dot in the id it can be read in two ways.
            raise SignatureError(f"{ID_HEADER} holds a dot")
        return headers[ID_HEADER]

    async def take(
        self,
        event: InboundEvent,
        headers: Mapping[str, str],
        body: bytes,
        *,
        message_id: str | None,
        trace: str | None,
    ) -> Received:
        """Store the event that was read from a verified ``body``, if it is not kept already.

        The same source and the same ``message_id``, else ``id``, else body is the same event. Raises
        `InvalidInputError` and the `StoreError` of `core.errors`.
        """
        named = headers.get(EVENT_HEADER, event.type)
        if named != event.type:
            raise InvalidInputError.at(
                "X-Webhook-Event", f"says {shortened(named)!r} where the signed body says {event.type!r}"
            )
        key = message_id or event.id or hashlib.sha256(body).hexdigest()
        if is_event_id(key):
            published = await self._publish(event, key, trace)
            if published is not None:
                return published
        derived = "inb_" + hashlib.sha256(f"{event.source}\0{key}".encode()).hexdigest()[:32]
        published = await self._publish(event, derived, trace)
        assert published is not None, "nobody else has an id that was made of the source"
        return published

    async def _publish(self, event: InboundEvent, event_id: str, trace: str | None) -> Received | None:
        """Store the event under this id; None if another source's event has it.

        An event keeps the id that its sender gave it: what comes back to a daemon that sent it, over however many
        hops, is known again.
        """
        published = await self._publisher.append(
            Event.make(
                id=event_id,
                type=event.type,
                data=event.data,
                source=event.source,
                version=event.version,
                now=self._clock.now(),
                told_at=event.timestamp,
                trace=trace,
                given_id=True,
            )
        )
        if published.duplicate and await self._source_of(event_id) not in {event.source, None}:
            return None
        return Received(event_id, published.duplicate)

    async def _source_of(self, event_id: str) -> str | None:
        try:
            kept = await self._log.get(event_id)
        except NotFoundError:
            return None  # it was kept a moment ago
        source: str = loads(kept.body)["source"]
        return source
