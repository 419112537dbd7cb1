"""Bounds a request's body, in bytes, in time, in bytes a second, and in what all bodies together take."""

import attrs
import trio

from econeura_daemon.server.asgi import Message, Receive
from econeura_daemon.server.problems import Problem
from econeura_daemon.server.requests import Request
from econeura_daemon.server.rules.memory import Share
from econeura_daemon.server.rules.shed import RETRY_AFTER, Hold, noticing_waits, overloaded

MIN_RATE = 240.0
"""Bytes a second that a body comes in at least, on average; Kestrel's ``MinRequestBodyDataRate``."""
RATE_GRACE = 5.0
"""Seconds for which the rate does not count; Kestrel's default too."""

_CLOSE = [(b"connection", b"close")]


class BodyRefusedError(Exception):
    """Raised into the application that reads a body which is not to be read on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


@attrs.frozen
class BodyBounds:
    """What a body may be."""

    max_bytes: int
    timeout: float
    """Seconds that are waited for all of it."""

    def refuse(self, request: Request) -> Problem | None:
        """Return the refusal of a request whose body is too large by its own word."""
        length = request.first.get(b"content-length")
        return self.too_large() if length is not None and int(length) > self.max_bytes else None

    def too_large(self) -> Problem:
        """Return the refusal."""
        return Problem.of(
            "payload-too-large", f"A request's body may have {self.max_bytes} bytes.", headers=_CLOSE
        )

    def patience(self, size: int) -> float:
        """Return the seconds in which ``size`` bytes and the next are to come."""
        return min(self.timeout, max(RATE_GRACE, size / MIN_RATE))


class BoundedBody:
    """``receive`` of an application, within bounds: 413 for too much, 408 for too slow, 503 if memory is short.

    The time in which nobody reads does not count. After each of these answers the connection closes: the rest
    of the body is still on its way. An application that already answers keeps its answer, cut off.
    """

    def __init__(self, receive: Receive, bounds: BodyBounds, share: Share) -> None:
        self._receive = receive
        self._bounds = bounds
        self._share = share
        self._size = 0
        self._waited = 0.0
        self._is_complete = False

    async def receive(self) -> Message:
        """Return the next message. Raises `BodyRefusedError`."""
        if self._is_complete:
            return await self._receive()
        begun = trio.current_time()
        message: Message | None = None
        with trio.move_on_at(begun + self._bounds.patience(self._size) - self._waited):
            message = await self._receive()
        if message is None:
            raise BodyRefusedError(
                Problem.of("request-timeout", "The request's body did not arrive in time.", headers=_CLOSE)
            )
        self._waited += trio.current_time() - begun
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._size += size
            self._is_complete = not message.get("more_body", False)
            if self._size > self._bounds.max_bytes:
                raise BodyRefusedError(self._bounds.too_large())
            if not self._share.grow(size):
                raise BodyRefusedError(
                    Problem.of(
                        "overloaded",
                        "The bodies of other requests take the memory that there is for them.",
                        headers=[(b"retry-after", RETRY_AFTER), *_CLOSE],
                    )
                )
        return message


class UnhurriedBody:
    """``receive`` of an application that holds a slot: it is lent while the rest of the body is on its way.

    What an application does with a body before all of it is there, it does without a slot.
    """

    def __init__(self, receive: Receive, hold: Hold) -> None:
        self._receive = receive
        self._hold = hold
        self._is_complete = False

    async def receive(self) -> Message:
        """Return the next message. Raises `BodyRefusedError`."""
        if self._is_complete:
            return await self._receive()
        message = await noticing_waits(self._receive(), self._hold.lend)
        self._is_complete = message["type"] != "http.request" or not message.get("more_body", False)
        if self._is_complete and not await self._hold.resume():
            raise BodyRefusedError(overloaded())
        return message


def has_body(request: Request) -> bool:
    """Tell whether a body follows the head."""
    first = request.first
    return b"transfer-encoding" in first or first.get(b"content-length", b"0").strip(b"0") != b""
