"""A receiver of webhooks, for trying things out: verifies, remembers, fails or is slow on demand."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import attrs
import h11
import trio

from econeura_daemon.core.clock import Clock, format_instant, to_ms
from econeura_daemon.webhooks.signing import SignatureError, verify

TOLERANCE_MS = 5 * 60 * 1000
MAX_BODY = 10 * 1024 * 1024
"""Bytes; a larger body is answered 413."""
_CHUNK = 65536


@attrs.frozen(kw_only=True)
class Arrival:
    """One request that came, and how it was answered."""

    at: str
    id: str | None
    """``webhook-id``: the event's, the same on every attempt."""
    event: str | None
    delivery: str | None
    attempt: int
    """How often this delivery has come, this time included."""
    duplicate: bool
    """An earlier request with this ``webhook-id`` was verified and answered 2xx."""
    verified: bool | None
    """None: there was no secret to verify with."""
    why: str | None
    """Why it is not verified."""
    status: int
    size: int
    body: Any = attrs.field(repr=False)
    """The JSON, or the text where it is none."""

    def to_json(self) -> dict[str, Any]:
        """Return it as ``-o json`` prints it."""
        return attrs.asdict(self)


class Receiver:
    """Judges what arrives.

    ``fail_rate`` is the share (0 to 1) that is answered 500, ``delay`` the seconds before an answer.
    """

    def __init__(
        self, secrets: tuple[str, ...], clock: Clock, rng: Random, *, fail_rate: float = 0, delay: float = 0
    ) -> None:
        self.secrets = secrets
        self.delay = delay
        self._clock = clock
        self._rng = rng
        self._fail_rate = fail_rate
        self._attempts: Counter[str] = Counter()
        self._taken: set[str] = set()

    def take(self, headers: Mapping[str, str], body: bytes) -> Arrival:
        """Judge one request; ``headers`` with names in lower case."""
        now = self._clock.now()
        message_id, delivery = headers.get("webhook-id"), headers.get("x-webhook-delivery")
        verified, why = self._verified(headers, body, to_ms(now))
        key = delivery or message_id or ""
        self._attempts[key] += 1
        duplicate = message_id is not None and message_id in self._taken
        if verified is False:
            status = 401
        elif self._rng.random() < self._fail_rate:
            status = 500
        else:
            status = 204
            if message_id is not None:
                self._taken.add(message_id)
        return Arrival(
            at=format_instant(now),
            id=message_id,
            event=headers.get("x-webhook-event"),
            delivery=delivery,
            attempt=self._attempts[key],
            duplicate=duplicate,
            verified=verified,
            why=why,
            status=status,
            size=len(body),
            body=_readable(body),
        )

    def _verified(
        self, headers: Mapping[str, str], body: bytes, now_ms: int
    ) -> tuple[bool | None, str | None]:
        """Verify every signature that is there; a message with both kinds must satisfy both."""
        if not self.secrets:
            return None, "no secret was given"
        try:
            verify(self.secrets, headers, body, now_ms=now_ms, tolerance_ms=TOLERANCE_MS)
        except SignatureError as error:
            return False, str(error)
        return True, None


def _readable(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")


async def receive(stream: trio.abc.Stream, receiver: Receiver, arrived: Callable[[Arrival], None]) -> None:
    """Serve one connection until its other side closes it.

    ``arrived`` is told of each request once it is answered.
    """
    connection = h11.Connection(h11.SERVER)
    async with stream:
        try:
            while await _serve_request(stream, connection, receiver, arrived):
                connection.start_next_cycle()
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            pass  # whoever sends nonsense, or leaves, is not answered


async def _serve_request(
    stream: trio.abc.Stream,
    connection: h11.Connection,
    receiver: Receiver,
    arrived: Callable[[Arrival], None],
) -> bool:
    """Answer one request; return whether another may follow."""
    request = await _next_event(stream, connection)
    if not isinstance(request, h11.Request):
        return False
    body = b""
    while isinstance(event := await _next_event(stream, connection), h11.Data):
        body += event.data
        if len(body) > MAX_BODY:
            await _answer(stream, connection, 413)
            return False
    if not isinstance(event, h11.EndOfMessage):
        return False
    if request.method != b"POST":
        await _answer(stream, connection, 405)
        return connection.our_state is h11.DONE
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
    await trio.sleep(receiver.delay)
    arrival = receiver.take(headers, body)
    await _answer(stream, connection, arrival.status)
    arrived(arrival)
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE


async def _next_event(stream: trio.abc.Stream, connection: h11.Connection) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        if connection.they_are_waiting_for_100_continue:
            await stream.send_all(
                connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
            )
        connection.receive_data(bytes(await stream.receive_some(_CHUNK)))
    return event


async def _answer(stream: trio.abc.Stream, connection: h11.Connection, status: int) -> None:
    headers = [("server", "econeura-daemon-listen")]
    if status != 204:
        headers.append(("content-length", "0"))
    if status == 413:
        headers.append(("connection", "close"))
    head = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    await stream.send_all(head + (connection.send(h11.EndOfMessage()) or b""))
