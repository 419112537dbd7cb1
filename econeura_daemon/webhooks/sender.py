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
from econeura_daemon.wire import AnswerTooLargeError

logger = logging.getLogger(__name__)

USER_AGENT = f"econeura-daemon/{VERSION}"

_MAX_PREPARED = 10_000
"""Subscriptions whose part of a request is kept ready: some 2 kB each."""

Headers = list[tuple[bytes, bytes]]


@attrs.frozen(eq=False)
class _Prepared:
    """What all attempts for one subscription have in common."""

    subscription: Subscription
    url: httpx.URL
    headers: Headers
    signer: Signer

    def fits(self, subscription: Subscription) -> bool:
        known = self.subscription
        return subscription is known or (
            subscription.url == known.url
            and subscription.secrets == known.secrets
            and subscription.headers == known.headers
        )


@attrs.define(eq=False)
class _Answer:
    """As much of an answer as has come so far."""

    status: int | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    kept: bytearray = attrs.field(factory=bytearray)
    size: int = 0

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if len(self.kept) < MAX_KEPT:
            self.kept += part[: MAX_KEPT - len(self.kept)]


class Sender:
    """Makes attempts. ``transport`` is the guarded one of `wire`, or any other in its place."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        settings: WebhookSettings,
        clock: Clock,
        rng: Random | None = None,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._rng = rng or SystemRandom()
        self._prepared: dict[str, _Prepared] = {}
        self.use(settings)

    def use(self, settings: WebhookSettings) -> None:
        """Take time limits and the daemon's own secret from ``settings``, from the next attempt on."""
        self._own_secrets = () if settings.secret is None else (Secret(settings.secret),)
        self._prepared.clear()
        self._timeout_ms = settings.timeout_ms
        self._extensions = {"timeout": {"connect": settings.connect_timeout_ms / 1000}}

    async def send(self, outgoing: Outgoing) -> AttemptOutcome:
        """Make one attempt and tell how it went. Nothing but `trio.Cancelled` is ever raised."""
        sent_at, started = self._clock.now(), trio.current_time()
        answer = _Answer()
        error: str | None = None
        refused = False
        try:
            with trio.move_on_after(self._timeout_ms / 1000) as scope:
                await self._exchange(self._request(outgoing, sent_at), answer)
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

    async def _exchange(self, request: httpx.Request, answer: _Answer) -> None:
        response = await self._transport.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        parts = aiter(stream)
        try:
            answer.headers = response.headers.raw
            answer.status = response.status_code
            async for part in parts:
                answer.add(part)
                if answer.size >= MAX_READ:
                    break
        except AnswerTooLargeError:
            pass  # the receiver has answered; what more it says is not read
        finally:
            if hasattr(parts, "aclose"):
                await parts.aclose()  # a generator must not be left to the garbage collector
            await stream.aclose()

    def _request(self, outgoing: Outgoing, now: datetime) -> httpx.Request:
        prepared = self._prepare(outgoing.subscription)
        body = outgoing.body
        timestamp = int(now.timestamp())
        signatures = prepared.signer.sign(outgoing.event_id, timestamp, body)
        if signatures is None:
            raise ValueError("the subscription has no live secret to sign with")
        headers: Headers = [
            *prepared.headers,
            (b"Content-Length", b"%d" % len(body)),
            (b"webhook-id", outgoing.event_id.encode("ascii")),
            (b"webhook-timestamp", b"%d" % timestamp),
            (b"webhook-signature", signatures[0]),
            (b"X-Webhook-Signature", signatures[1]),
            (b"X-Webhook-Event", outgoing.event_type.encode("ascii")),
            (b"X-Webhook-Delivery", outgoing.delivery_id.encode("ascii")),
        ]
        if outgoing.trace is not None:
            headers += self._trace(outgoing.trace)
        return httpx.Request(
            "POST",
            prepared.url,
            headers=headers,
            stream=httpx.ByteStream(body),
            extensions=self._extensions,
        )

    def _prepare(self, subscription: Subscription) -> _Prepared:
        prepared = self._prepared.get(subscription.id)
        if prepared is not None and prepared.fits(subscription):
            return prepared
        url = httpx.URL(subscription.url)
        headers = [
            (b"Host", url.netloc),
            (b"Content-Type", b"application/json"),
            (b"User-Agent", USER_AGENT.encode("ascii")),
            (b"Accept", b"*/*"),
            (b"Accept-Encoding", b"identity"),
            *(
                (name.encode("ascii"), value.encode("latin-1"))
                for name, value in subscription.headers.items()
            ),
        ]
        prepared = _Prepared(subscription, url, headers, Signer.of(subscription.secrets or self._own_secrets))
        if len(self._prepared) >= _MAX_PREPARED:
            self._prepared.clear()
        self._prepared[subscription.id] = prepared
        return prepared

    def _trace(self, trace: str) -> Headers:
        parent, _, state = trace.partition("\n")
        context = parse_traceparent(parent, state or None)
        if context is None:
            return []
        return [
            (name.encode("ascii"), value.encode("ascii"))
            for name, value in child(context, self._rng).headers()
        ]

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
