"""Query parameters of the routes that list."""

from collections.abc import Sequence

from econeura_daemon.api.queries import Parameter, choice_of, instant
from econeura_daemon.core.phrases import shortened
from econeura_daemon.events import pattern_flaw
from econeura_daemon.events.model import type_flaw
from econeura_daemon.webhooks.model import DeliveryStatus

MAX_PATTERNS = 50
_MAX_ID_LENGTH = 128

_one_status = choice_of(*(status.value for status in DeliveryStatus))


def _pattern(text: str) -> str:
    flaw = pattern_flaw(text)
    if flaw is not None:
        raise ValueError(flaw)
    return text


def _exact_type(text: str) -> str:
    flaw = type_flaw(text)
    if flaw is not None:
        raise ValueError(flaw)
    return text


def _patterns(text: str) -> tuple[str, ...]:
    patterns = text.split(",")
    if len(patterns) > MAX_PATTERNS:
        raise ValueError(f"expected at most {MAX_PATTERNS} patterns, got {len(patterns)}")
    return tuple(_pattern(pattern.strip()) for pattern in patterns)


def _id(text: str) -> str:
    if not text or len(text) > _MAX_ID_LENGTH or not text.isprintable():
        raise ValueError(f"expected an id of 1 to {_MAX_ID_LENGTH} characters, got {shortened(text)!r}")
    return text


def _status(text: str) -> DeliveryStatus:
    return DeliveryStatus(_one_status(text))


_TEXT = {"type": "string"}
_INSTANT = {"type": "string", "format": "date-time"}

EVENT_PATTERN: Parameter[str | None] = Parameter(
    name="type",
    read=_pattern,
    default=None,
    schema=_TEXT,
    doc="An event type, `prefix.*` for everything below a prefix, or `*`.",
)
EVENT_TYPE: Parameter[str | None] = Parameter(
    name="eventType", read=_exact_type, default=None, schema=_TEXT, doc="Only of this event type."
)
EVENT_ID: Parameter[str | None] = Parameter(
    name="eventId", read=_id, default=None, schema=_TEXT, doc="Only of this event."
)
SUBSCRIPTION_ID: Parameter[str | None] = Parameter(
    name="subscriptionId", read=_id, default=None, schema=_TEXT, doc="Only of this subscription."
)
STATUS: Parameter[DeliveryStatus | None] = Parameter(
    name="status",
    read=_status,
    default=None,
    schema={"type": "string", "enum": [status.value for status in DeliveryStatus]},
    doc="Only in this status.",
)
SINCE: Parameter[int | None] = Parameter(
    name="since", read=instant, default=None, schema=_INSTANT, doc="Not older than this instant."
)
UNTIL: Parameter[int | None] = Parameter(
    name="until", read=instant, default=None, schema=_INSTANT, doc="Older than this instant."
)
TYPES: Parameter[Sequence[str]] = Parameter(
    name="types",
    read=_patterns,
    default=(),
    schema=_TEXT,
    doc="Event types or patterns, separated by commas; without it, all.",
)
