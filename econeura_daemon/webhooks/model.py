"""Subscriptions, deliveries, attempts: the words of this package as values."""

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from econeura_daemon.core.clock import format_ms


class DeliveryStatus(enum.StrEnum):
    """Where a delivery stands.

    pending or retrying → (claimed) delivering → delivered, retrying or failed; anything unfinished → canceled
    when its subscription is deleted.
    """

    PENDING = "pending"
    DELIVERING = "delivering"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELED = "canceled"


class AttemptStatus(enum.StrEnum):
    """How an attempt went; `UNKNOWN`: the daemon died between the send and the record."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Trigger(enum.StrEnum):
    """Why an attempt was made."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"
    TEST = "test"
    RECOVERY = "recovery"


@attrs.frozen
class Secret:
    """A signing secret as it was given: ``whsec_<base64>``, or any other text, used as its UTF-8 bytes."""

    text: str = attrs.field(repr=False)
    expires_at: int | None = None
    """Milliseconds since the epoch; None: does not expire."""


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When a failed delivery of one subscription is tried again. Durations in milliseconds.

    A given ``schedule`` wins; else ``retry_delay · backoff_multiplier^n``, at most ``max_delay``.
    """

    max_retries: int
    retry_delay: int = 5_000
    backoff_multiplier: float = 2.0
    max_delay: int = 24 * 3600 * 1000
    schedule: tuple[int, ...] | None = None


@attrs.frozen(kw_only=True)
class Subscription:
    """Who is told of what, and how. ``retry_policy`` None: the daemon's default."""

    id: str
    url: str
    patterns: tuple[str, ...]
    secrets: tuple[Secret, ...] = attrs.field(repr=False)
    """Empty: the daemon's own secret signs (``webhooks.secret``), whichever it is at the time."""
    active: bool
    created_at: int
    updated_at: int
    description: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    retry_policy: RetryPolicy | None = None
    max_in_flight: int | None = None
    disabled_reason: str | None = None
    failure_count: int = 0
    first_failure_at: int | None = None
    last_delivery_at: int | None = None
    deleted: bool = False


@attrs.frozen(kw_only=True)
class Delivery:
    """One event owed to one subscription. Instants are milliseconds since the epoch."""

    id: str
    event_id: str
    event_type: str
    subscription_id: str
    url: str
    status: DeliveryStatus
    attempts: int
    max_attempts: int
    created_at: int
    next_attempt_at: int | None = None
    last_attempt_at: int | None = None
    last_error: str | None = None
    response_code: int | None = None
    response_time: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the delivery as the API shows it."""
        return {
            "id": self.id,
            "eventId": self.event_id,
            "eventType": self.event_type,
            "subscriptionId": self.subscription_id,
            "url": self.url,
            "status": self.status.value,
            "attempts": self.attempts,
            "maxAttempts": self.max_attempts,
            "nextAttemptAt": _instant(self.next_attempt_at),
            "createdAt": format_ms(self.created_at),
            "lastAttemptAt": _instant(self.last_attempt_at),
            "lastError": self.last_error,
            "responseCode": self.response_code,
            "responseTime": self.response_time,
        }


@attrs.frozen(kw_only=True)
class Attempt:
    """One HTTP try of a delivery, as it is kept."""

    id: str
    number: int
    trigger: Trigger
    status: AttemptStatus
    started_at: int
    duration_ms: int | None = None
    status_code: int | None = None
    error: str | None = None
    response_headers: Mapping[str, str] | None = None
    response_body: bytes | None = attrs.field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the attempt as the API shows it; bytes that are not UTF-8 show as U+FFFD."""
        body = self.response_body
        return {
            "id": self.id,
            "number": self.number,
            "trigger": self.trigger.value,
            "status": self.status.value,
            "startedAt": format_ms(self.started_at),
            "durationMs": self.duration_ms,
            "statusCode": self.status_code,
            "error": self.error,
            "responseHeaders": dict(self.response_headers) if self.response_headers is not None else None,
            "responseBody": None if body is None else body.decode(errors="replace"),
        }


@attrs.frozen(kw_only=True)
class Outgoing:
    """All that one attempt needs: what to send, where to, signed with what."""

    delivery_id: str
    event_id: str
    event_type: str
    body: bytes = attrs.field(repr=False)
    trace: str | None
    subscription: Subscription
    number: int
    """Of this attempt, from 1."""
    max_attempts: int
    created_at: int
    """Of the delivery, in milliseconds since the epoch."""


@attrs.frozen(kw_only=True)
class AttemptOutcome:
    """How one HTTP try ended. Never an exception: whatever a receiver does is expected.

    Exactly one of ``status_code`` and ``error`` is given, except when the head of an answer came and the rest
    did not: then both are.
    """

    sent_at: datetime
    duration_ms: int
    status_code: int | None = None
    error: str | None = None
    """In words a person can act on: 'connection refused by 127.0.0.1:9999', 'no answer within 15000 ms'."""
    refused: bool = False
    """The egress guard did not let it out; no byte was sent."""
    response_headers: Mapping[str, str] | None = None
    response_body: bytes | None = attrs.field(default=None, repr=False)
    """The first 4 KiB."""
    retry_after_ms: int | None = None
    """What a ``Retry-After`` header asked for."""

    @property
    def succeeded(self) -> bool:
        """2xx, and all of the answer (or its first 64 KiB) came."""
        return self.error is None and self.status_code is not None and 200 <= self.status_code < 300


def _instant(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else format_ms(milliseconds)
