"""What an event is: an immutable fact with a type and data, written down once as the bytes that are sent."""

import re
from datetime import datetime
from typing import Any

import attrs

from econeura_daemon.core.clock import format_instant
from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.core.jsons import dumps
from econeura_daemon.core.phrases import shortened
from econeura_daemon.core.validators import length

MAX_TYPE_LENGTH = 128
_TYPE = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_ID = re.compile(r"[\x21-\x2d\x30-\x7e]{1,128}")
"""No dot: it is the ``webhook-id`` of its deliveries, and what is signed is ``{id}.{timestamp}.{body}`` (Standard
Webhooks), where a dot in the id would let one signature stand for two messages. No slash: it is part of paths."""
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,128}")

DEFAULT_SOURCE = "api"
DEFAULT_VERSION = "1.0.0"


def type_flaw(text: str) -> str | None:
    """Return what is wrong with an event type, None if nothing is."""
    if len(text) > MAX_TYPE_LENGTH:
        return f"an event type has at most {MAX_TYPE_LENGTH} characters, this one has {len(text)}"
    if _TYPE.fullmatch(text) is None:
        return f"expected dot-separated parts of a-z, 0-9, _ and -, such as 'order.paid', got {text!r}"
    return None


def check_type(_instance: object, _attribute: object, value: str) -> None:
    """Refuse what is no event type, for attrs."""
    flaw = type_flaw(value)
    if flaw is not None:
        raise ValueError(flaw)


def is_event_id(text: str) -> bool:
    """Tell whether an event may have this id."""
    return _ID.fullmatch(text) is not None


def _check_id(_instance: object, _attribute: object, value: str | None) -> None:
    if value is not None and not is_event_id(value):
        raise ValueError(
            "expected 1 to 128 printable ASCII characters without spaces, '.' (it ends the id in what is signed) "
            f"and '/', got {shortened(value)!r}"
        )


def _check_text(_instance: object, _attribute: object, value: str) -> None:
    if _TEXT.fullmatch(value) is None:
        raise ValueError("expected 1 to 128 characters, none of them a control character")


@attrs.frozen(kw_only=True)
class PublishEvent:
    """A wish to publish: the body of ``POST /v1/events``. ``id`` makes it idempotent while the event is kept."""

    type: str = attrs.field(validator=check_type)
    data: dict[str, Any]
    source: str = attrs.field(default=DEFAULT_SOURCE, validator=_check_text)
    version: str = attrs.field(default=DEFAULT_VERSION, validator=_check_text)
    id: str | None = attrs.field(default=None, validator=_check_id)


@attrs.frozen(kw_only=True)
class PublishBatch:
    """The body of ``POST /v1/events/batch``."""

    events: tuple[PublishEvent, ...] = attrs.field(validator=length(1, 1000))


@attrs.frozen(kw_only=True)
class Event:
    """A fact as it is stored. ``body`` holds all of it as compact JSON, byte-identical on every delivery."""

    id: str
    type: str
    source: str
    occurred_at: datetime
    body: bytes = attrs.field(repr=False)
    trace: str | None = None
    """The publisher's ``traceparent``, with ``tracestate`` behind a newline where there is one."""
    given_id: bool = False
    """The publisher chose the id, so it may be a repeat."""
    about: str | None = None
    """The subscription that the event is about, which is not owed it."""

    @classmethod
    def make(
        cls,
        *,
        id: str,  # noqa: A002 - the field's name
        type: str,  # noqa: A002 - the field's name
        data: dict[str, Any],
        now: datetime,
        told_at: datetime | None = None,
        source: str = DEFAULT_SOURCE,
        version: str = DEFAULT_VERSION,
        trace: str | None = None,
        given_id: bool = False,
        about: str | None = None,
    ) -> "Event":
        """Write the event down. Raises `InvalidInputError` for text that has no UTF-8 form.

        ``told_at``: the ``timestamp`` that an event came with, of which nothing depends here; else it is ``now``.
        """
        document = {
            "id": id,
            "type": type,
            "data": data,
            "timestamp": format_instant(told_at or now),
            "source": source,
            "version": version,
        }
        try:
            body = dumps(document)
        except (TypeError, ValueError) as error:
            raise InvalidInputError.at("$.data", f"cannot be written as JSON: {error}") from None
        return cls(
            id=id,
            type=type,
            source=source,
            occurred_at=now,
            body=body,
            trace=trace,
            given_id=given_id,
            about=about,
        )


@attrs.frozen
class Published:
    """What became of one event."""

    id: str
    deliveries: int
    duplicate: bool = False


@attrs.frozen
class StoredEvent:
    """An event as it is read back from the log."""

    cursor: int
    id: str
    type: str
    body: bytes = attrs.field(repr=False)
