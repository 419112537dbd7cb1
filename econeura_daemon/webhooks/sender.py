"""One attempt: the stored bytes, signed, to the subscriber; whatever happens is a value.

The whole attempt, look-up to the answer's last byte, lives in one cancel scope, so a receiver that drips
bytes holds it no longer than one that sends none. A redirect is an answer like any other and is not followed.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from random import Random, SystemRandom

import attrs
import httpx
import trio

from econeura_daemon._version import VERSION
from econeura_daemon.core.clock import Clock
from econeura_daemon.core.errors import EgressRefusedError
from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.telemetry import child, parse_traceparent
from econeura_daemon.webhooks.answers import MAX_KEPT, MAX_READ, kept_headers, retry_after_ms
from econeura_daemon.webhooks.model import AttemptOutcome, Outgoing, Secret, Subscription
from econeura_daemon.webhooks.signing import Signer
from econeura_daemon.wire import (
    AnswerCutError,
    AnswerTooLargeError,
    OverHttpx,
    Posting,
    Target,
    header_lines,
    request_line,
)

logger = logging.getLogger(__name__)

USER_AGENT = f"econeura-daemon/{VERSION}"

MAX_PREPARED_BYTES = 128 * 1024 * 1024
"""Of subscriptions' parts of requests that are kept ready; beyond it they are made anew on the way."""
PREPARED_BYTES = 600
"""What such a part takes beside its head."""

_FIXED = header_lines(
    (
        (b"Content-Type", b"application/json"),
        (b"User-Agent", USER_AGENT.encode("ascii")),
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"identity"),
    )
)


@attrs.define(eq=False)
class _Prepared:
    """What all attempts for one subscription have in common."""

    subscription: Subscription
    target: Target
    head: bytes
    """The request line and the subscription's own headers."""
    signer: Signer

    def fits(self, subscription: Subscription) -> bool:
        known = self.subscription
        if subscription is known:
            return True
        if (
            subscription.url != known.url
            or subscription.secrets != known.secrets
            or subscription.headers != known.headers
        ):
            return False
        self.subscription = subscription  # it was read anew; one of the two is enough
        return True


@attrs.define(eq=False)
class _Answer:
    """As much of an answer as has come so far."""

    status: int | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    kept: bytearray = attrs.field(factory=bytearray)
    size: int = 0

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.status, self.headers = status, headers

    def add(self, part: bytes) -> bool:
        self.size += len(part)
        if len(self.kept) < MAX_KEPT:
            self.kept += part[: MAX_KEPT - len(self.kept)]
        return self.size < MAX_READ  # the receiver has answered; what more it says is not read


class Sender:
    """Makes attempts. ``transport`` is the guarded one of `wire`, or any other of httpx's kind in its place."""

    def __init__(
        self,
        transport: Posting | httpx.AsyncBaseTransport,
        settings: WebhookSettings,
        clock: Clock,
        rng: Random | None = None,
        *,
        max_prepared_bytes: int = MAX_PREPARED_BYTES,
    ) -> None:
        self._transport = transport if isinstance(transport, Posting) else OverHttpx(transport)
        self._clock = clock
        self._rng = rng or SystemRandom()
        self._prepared: dict[str, _Prepared] = {}
        self._prepared_bytes = 0
        self._max_prepared_bytes = max_prepared_bytes
        self.use(settings)

    def use(self, settings: WebhookSettings) -> None:
        """Take time limits and the daemon's own secret from ``settings``, from the next attempt on."""
        self._own_secrets = () if settings.secret is None else (Secret(settings.secret),)
        self._forget()
        self._timeout_ms = settings.timeout_ms
        self._connect_timeout = settings.connect_timeout_ms / 1000

    async def send(self, outgoing: Outgoing) -> AttemptOutcome:
        """Make one attempt and tell how it went. Nothing but `trio.Cancelled` is ever raised."""
        sent_at, started = self._clock.now(), trio.current_time()
        answer = _Answer()
        error: str | None = None
        refused = False
        try:
            with trio.CancelScope(deadline=started + self._timeout_ms / 1000) as scope:
                await self._exchange(outgoing, sent_at, answer)
            if scope.cancelled_caught:
                missing = "no answer" if answer.status is None else "the answer did not end"
                error = f"{missing} within {self._timeout_ms} ms"
        except EgressRefusedError as refusal:
            error, refused = str(refusal), True
        except httpx.TransportError as failure:
            error = str(failure) or type(failure).__name__
        except (httpx.InvalidURL, ValueError) as flaw:
            error = f"the request cannot be made: {flaw}"
        except Exception as bug:
            logger.exception("an attempt failed inside the daemon", extra={"delivery": outgoing.delivery_id})
            error = f"the daemon could not make the attempt: {type(bug).__name__}"
        return self._outcome(sent_at, started, answer, error, refused=refused)

    async def _exchange(self, outgoing: Outgoing, now: datetime, answer: _Answer) -> None:
        prepared = self._prepare(outgoing.subscription)
        head = self._head(prepared, outgoing, int(now.timestamp()))
        try:
            await self._transport.post(
                prepared.target, head, outgoing.body, answer, connect_timeout=self._connect_timeout
            )
        except (AnswerTooLargeError, AnswerCutError):
            if answer.status is None:  # it is what counts, and nobody could forge it
                raise

    def _head(self, prepared: _Prepared, outgoing: Outgoing, timestamp: int) -> bytes:
        signatures = prepared.signer.sign(outgoing.event_id, timestamp, outgoing.body)
        if signatures is None:
            raise ValueError("the subscription has no live secret to sign with")
        event_id, event_type = outgoing.event_id.encode("ascii"), outgoing.event_type.encode("ascii")
        head = (
            b"%b%bContent-Length: %d\r\nwebhook-id: %b\r\nwebhook-timestamp: %d\r\nwebhook-signature: %b\r\n"
            b"X-Webhook-Signature: %b\r\nX-Webhook-Event: %b\r\nX-Webhook-Delivery: %b\r\n"
        ) % (
            prepared.head,
            _FIXED,
            len(outgoing.body),
            event_id,
            timestamp,
            *signatures,
            event_type,
            outgoing.delivery_id.encode("ascii"),
        )
        return head if outgoing.trace is None else head + self._trace(outgoing.trace)

    def _prepare(self, subscription: Subscription) -> _Prepared:
        prepared = self._prepared.get(subscription.id)
        if prepared is not None and prepared.fits(subscription):
            return prepared
        url = httpx.URL(subscription.url)
        headers = [
            (b"Host", url.netloc),
            *(
                (name.encode("ascii"), value.encode("latin-1"))
                for name, value in subscription.headers.items()
            ),
        ]
        head = request_line(b"POST", url.raw_path) + header_lines(headers)
        signer = Signer.of(subscription.secrets or self._own_secrets)
        if self._prepared_bytes >= self._max_prepared_bytes:
            self._forget()
        self._prepared_bytes += PREPARED_BYTES + len(head)
        prepared = self._prepared[subscription.id] = _Prepared(subscription, Target.of(url), head, signer)
        return prepared

    def _forget(self) -> None:
        self._prepared.clear()
        self._prepared_bytes = 0

    def _trace(self, trace: str) -> bytes:
        parent, _, state = trace.partition("\n")
        context = parse_traceparent(parent, state or None)
        if context is None:
            return b""
        return header_lines(
            (name.encode("ascii"), value.encode("ascii"))
            for name, value in child(context, self._rng).headers()
        )

    def _outcome(
        self, sent_at: datetime, started: float, answer: _Answer, error: str | None, *, refused: bool
    ) -> AttemptOutcome:
        asked = None
        came = answer.status is not None
        headers = kept_headers(answer.headers) if came else None
        if headers is not None and not 200 <= (answer.status or 0) < 300 and "retry-after" in headers:
            asked = retry_after_ms(headers["retry-after"], self._clock.now())
        return AttemptOutcome(
            sent_at=sent_at,
            duration_ms=round((trio.current_time() - started) * 1000),
            status_code=answer.status,
            error=error,
            refused=refused,
            response_headers=headers,
            response_body=bytes(answer.kept) if came else None,
            retry_after_ms=asked,
        )
