"""Query parameters of the routes that list."""

import re
from collections.abc import Sequence

from econeura_daemon.api.queries import MAX_LOG_CURSOR, Parameter, choice_of, instant, integer
from econeura_daemon.core.phrases import shortened
from econeura_daemon.cron.model import RunStatus
from econeura_daemon.events import pattern_flaw
from econeura_daemon.events.model import type_flaw
from econeura_daemon.registry.model import Status
from econeura_daemon.webhooks.model import DeliveryStatus
from econeura_daemon.workers.model import EmailStatus

MAX_PATTERNS = 50
_MAX_ID_LENGTH = 128

DEFAULT_WAIT = 300.0
MAX_WAIT = 600.0
"""Seconds."""

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_METHOD = re.compile(r"[A-Z]{1,16}")

_one_status = choice_of(*(status.value for status in DeliveryStatus))
_one_run_status = choice_of(*(status.value for status in RunStatus))
_one_email_status = choice_of(*(status.value for status in EmailStatus))
_one_service_status = choice_of(*(status.value for status in Status))


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


def _run_status(text: str) -> RunStatus:
    return RunStatus(_one_run_status(text))


def _wait(text: str) -> float:
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else -1
    if not 0 <= seconds <= MAX_WAIT:
        raise ValueError(
            f"expected a duration such as 500ms, 30s or 5m, at most 10m, got {shortened(text)!r}"
        )
    return seconds


def _words(text: str) -> str:
    if not text or len(text) > 128 or not text.isprintable():
        raise ValueError(f"expected 1 to 128 characters, got {shortened(text)!r}")
    return text


def _message_id(text: str) -> str:
    if not text or len(text) > 998 or not text.isprintable():
        raise ValueError(f"expected 1 to 998 characters, got {shortened(text)!r}")
    return text


def _method(text: str) -> str:
    if _METHOD.fullmatch(text.upper()) is None:
        raise ValueError(f"expected a method such as GET, got {shortened(text)!r}")
    return text.upper()


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
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

SERVICE_TYPE: Parameter[str | None] = Parameter(
    name="type", read=_words, default=None, schema=_TEXT, doc="Only instances of this service."
)
SERVICE_STATUS: Parameter[Status | None] = Parameter(
    name="status",
    read=lambda text: Status(_one_service_status(text)),
    default=None,
    schema={"type": "string", "enum": [status.value for status in Status]},
    doc="Only in this status.",
)
TAG: Parameter[str | None] = Parameter(
    name="tag", read=_words, default=None, schema=_TEXT, doc="Only with this tag."
)
INDEX: Parameter[int | None] = Parameter(
    name="index",
    read=lambda text: integer(text, 0, MAX_LOG_CURSOR),
    default=None,
    schema=_COUNT,
    doc="`X-Econeura-Index` of the answer before: wait until this list is another one. One that is unknown or too "
    "old is answered at once.",
)
WAIT: Parameter[float] = Parameter(
    name="wait",
    read=_wait,
    default=DEFAULT_WAIT,
    schema={"type": "string", "pattern": _DURATION.pattern, "default": "5m"},
    doc="How long to wait at most, such as `30s`; at most `10m`.",
)
DESCRIPTION: Parameter[str | None] = Parameter(
    name="description",
    read=_words,
    default=None,
    schema=_TEXT,
    doc="Stands in the description, in any case.",
)
METHOD: Parameter[str | None] = Parameter(
    name="method", read=_method, default=None, schema=_TEXT, doc="Only with this method."
)
RUN_STATUS: Parameter[RunStatus | None] = Parameter(
    name="status",
    read=_run_status,
    default=None,
    schema={"type": "string", "enum": [status.value for status in RunStatus]},
    doc="Only runs in this state.",
)
EMAIL_STATUS: Parameter[EmailStatus | None] = Parameter(
    name="status",
    read=lambda text: EmailStatus(_one_email_status(text)),
    default=None,
    schema={"type": "string", "enum": [status.value for status in EmailStatus]},
    doc="Only those that ended so.",
)
ORGANIZATION_ID: Parameter[str | None] = Parameter(
    name="organizationId", read=_words, default=None, schema=_TEXT, doc="Only of this organization."
)
MESSAGE_ID: Parameter[str | None] = Parameter(
    name="messageId", read=_message_id, default=None, schema=_TEXT, doc="Only of this e-mail."
)
