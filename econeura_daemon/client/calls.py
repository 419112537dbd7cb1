"""A call, and its answer, as the steps between caller and instance pass them on."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from math import inf
from typing import Protocol
from warnings import warn

import attrs
import httpx
import trio

from econeura_daemon.client.errors import UpstreamTimeoutError
from econeura_daemon.resilience import End, Member, Outcome, Request
from econeura_daemon.resilience.retry import IDEMPOTENT
from econeura_daemon.telemetry.trace import TraceContext

Header = tuple[bytes, bytes]

REPLAYED = 64 * 1024
"""Bytes of a streamed body that are kept to be sent again; one that is longer is sent once."""


class KeptBody:
    """A body that comes in pieces. What was sent of it is kept, as long as it is little, and sent again."""

    def __init__(
        self, source: Callable[[], Awaitable[bytes]], length: int | None, *, is_resumable: bool = True
    ) -> None:
        """``source`` returns the next piece, nothing at the end; ``length``: as announced, if it was.

        ``is_resumable``: who waits for a piece may be cancelled, and ask again. A generator is at its end then.
        """
        self.is_resumable = is_resumable
        self.length = length
        self._source = source
        self._kept: list[bytes] = []
        self._size = 0
        self._ended = False
        self.is_awaited = False
        """Whether its source is waited for just now."""
        self.is_replayable = True
        """Whether all that was taken is still here."""
        self.is_broken = False
        """Whether its source raised: that is about nobody but the caller."""

    @property
    def is_small(self) -> bool:
        """Whether it is known to stay replayable."""
        return self.length is not None and self.length <= REPLAYED

    def stream(self) -> httpx.AsyncByteStream:
        """Return it from its beginning."""
        self.is_awaited = False
        return _FromBeginning(self)

    async def piece(self, place: int) -> bytes:
        """Return a piece by its number, nothing after the last."""
        if place < len(self._kept):
            return self._kept[place]
        if self._ended:
            return b""
        self.is_awaited = True
        try:
            part = await self._source()
        except BaseException as error:
            self.is_broken = isinstance(error, Exception)
            self.is_replayable = self.is_replayable and self.is_resumable
            raise
        self.is_awaited = False
        self._ended = not part
        self._size += len(part)
        if self.is_replayable and self._size <= REPLAYED:
            self._kept.append(part)
        else:
            self.is_replayable = False
            self._kept.clear()
        return part


class _FromBeginning(httpx.AsyncByteStream):
    def __init__(self, body: KeptBody) -> None:
        self._body = body
        self._next = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = await self._body.piece(self._next)
        self._next += 1
        if not part:
            raise StopAsyncIteration
        return part


@attrs.frozen
class Attempt:
    """One attempt that ended."""

    service_id: str
    outcome: Outcome
    seconds: float
    """To the head of the answer, or to the failure."""


@attrs.define(eq=False, kw_only=True)
class Call:
    """One call of a service, however many attempts it takes."""

    service: str
    method: str
    place: bytes
    """Path and query, percent-encoded."""
    headers: Sequence[Header] = ()
    """End to end ones; without Host, and without what frames the body."""
    body: bytes | KeptBody = attrs.field(default=b"", repr=False)
    timeout: float | None = None
    """Seconds; the caller's own, which shortens the service's."""
    is_patient: bool = False
    """The caller's own holds in place of the service's, where it is longer too, and each try may take all of it."""
    trace: TraceContext | None = None
    is_whole: bool = False
    """The deadline is for the whole answer; else for its head, and the body may last as long as it goes on coming."""
    id: str = ""
    """The request's, for whoever looks for it."""
    # What the steps find out on the way.
    began: float = 0.0
    deadline: float = 0.0
    is_hurried: bool = False
    """The deadline is the caller's own: that it passes says nothing about the instance."""
    tried: list[Member] = attrs.field(factory=list)
    made: list[Attempt] = attrs.field(factory=list)
    attempts: int = 0
    asked: str | None = None
    """The instance that was asked last."""

    @property
    def request(self) -> Request:
        """What decides whether it may be sent twice."""
        replayable = self.body.is_replayable if isinstance(self.body, KeptBody) else True
        keyed = any(name.lower() == b"idempotency-key" for name, _ in self.headers)
        return Request(method=self.method, has_idempotency_key=keyed, is_replayable=replayable)

    @property
    def may_be_repeated(self) -> bool:
        """Whether an instance that was asked may be asked again, or another one, if no answer comes."""
        is_small = self.body.is_small if isinstance(self.body, KeptBody) else True
        return is_small and self.is_idempotent

    @property
    def is_idempotent(self) -> bool:
        """Whether an instance that saw it once may see it again."""
        return self.method in IDEMPOTENT or self.request.is_idempotent


class Sent(Protocol):
    """What came back for an attempt: a head, and a body to be read or ended."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Sequence[Header]:
        """As they came."""

    @property
    def is_whole(self) -> bool:
        """Whether all of the body is here already, so that `more` waits for nobody."""

    async def more(self) -> bytes:
        """Return the next bytes of the body, nothing at its end. Raises `httpx.TransportError`."""

    def end(self) -> None:
        """Read no more. Harmless when repeated."""


_TIMED_OUT = Outcome(End.TIMED_OUT)


class Answer:
    """A service's answer. Read it to its end or close it: what the call holds is given back then, not before."""

    __slots__ = (
        "_ends",
        "_sent",
        "attempts",
        "headers",
        "late",
        "outcome",
        "seconds",
        "service_id",
        "status",
        "until",
    )

    def __init__(self, sent: Sent, outcome: Outcome) -> None:
        self._sent = sent
        self._ends: list[Callable[[Outcome], None]] = []
        self.status = sent.status
        self.headers = sent.headers
        self.outcome = outcome
        self.service_id = ""
        """The instance that answered."""
        self.attempts = 0
        self.seconds = 0.0
        """From the call's beginning to this head."""
        self.until = inf
        """When all of it must be there."""
        self.late = _TIMED_OUT
        """What is told if it is not."""

    def __del__(self) -> None:
        """Give back what a caller forgot to; without a loop, nobody is left to whom it would matter."""
        if self._ends:
            if trio.lowlevel.in_trio_run():
                self.close()
            warn(
                f"{self!r} was neither read to its end nor closed", ResourceWarning, stacklevel=1, source=self
            )

    def __repr__(self) -> str:
        return f"<Answer {self.status} of {self.service_id or 'nobody'}>"

    @property
    def is_whole(self) -> bool:
        """Whether all of the body is here already, so that `more` waits for nobody."""
        return self._sent.is_whole

    def at_end(self, end: Callable[[Outcome], None]) -> None:
        """Have ``end`` told, once, how it ended: as its status says, or that the instance broke it off."""
        self._ends.append(end)

    async def more(self) -> bytes:
        """Return the next bytes of the body, nothing at its end; for one caller at a time.

        Raises `httpx.TransportError`, which is `UpstreamTimeoutError` if `until` passes.
        """
        try:
            part = await self._sent.more() if self.until == inf else await self._more_in_time()
        except httpx.TransportError as error:
            timed_out = isinstance(error, httpx.TimeoutException)
            self._end(Outcome(End.TIMED_OUT if timed_out else End.RESET))
            raise
        except BaseException:
            self.close()
            raise
        if not part:
            self.close()
        return part

    async def _more_in_time(self) -> bytes:
        with trio.move_on_at(self.until):
            return await self._sent.more()
        self._end(self.late)
        raise UpstreamTimeoutError(f"{self.service_id} did not bring its answer to an end in time")

    def close(self) -> None:
        """Read no more. Harmless when repeated."""
        self._end(self.outcome)

    def _end(self, outcome: Outcome) -> None:
        self._sent.end()
        while self._ends:
            self._ends.pop()(outcome)
