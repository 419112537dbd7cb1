"""Server-Sent Events: the tail of the event log, in pieces, at the reader's own pace.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. A stream holds one batch of events at
a time, read from the log when the one before was taken: a slow reader costs a slow reader, and no memory.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import attrs
import trio
from quart.wrappers.response import ResponseBody

from econeura_daemon.core.errors import StoreError
from econeura_daemon.core.jsons import dumps
from econeura_daemon.events import Event, EventLog, Listener, StoredEvent
from econeura_daemon.storage import Watch

KEEP_ALIVE = 15.0
"""Seconds between comment lines: proxies give up on a silent connection after 30 s and more."""

BATCH = 100
"""Events looked at in one reading, at most."""

FIRST_BATCH = 10
BATCH_BYTES = 256 * 1024
"""A reading begins small, grows while events are small and shrinks when they are not; `EventLog.after` has a
bound of its own for the case that they grow."""

MAX_BEHIND = 10_000
"""Events by which a reader that was at the log's end may fall behind before it is told and closed."""

_log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"


@attrs.frozen
class Start:
    """Where a stream begins: after ``cursor``, ``lost`` if what was asked for is not kept any more."""

    cursor: int
    lost: bool = False


def start_of(asked: int | None, oldest: int, newest: int) -> Start:
    """Return where to begin for a reader that saw everything up to ``asked`` (None: nothing but what comes).

    ``oldest`` and ``newest`` are the log's bounds, both 0 if it is empty. A cursor beyond the newest is
    one of a log that was lost or put back from a backup: what the reader missed cannot be told.
    """
    if asked is None:
        return Start(newest)
    if newest == 0:
        return Start(asked)
    if asked > newest:
        return Start(newest, lost=True)
    if asked < oldest - 1:
        return Start(oldest - 1, lost=True)
    return Start(asked)


class EventStream(ResponseBody):
    """The body of a stream: an async iterator of pieces, open for the length of its block.

    It ends when the daemon drains, or when the reader fell behind; the pieces say which.
    """

    def __init__(self, log: EventLog, start: Start, patterns: Sequence[str], draining: trio.Event) -> None:
        self._log = log
        self._cursor = start.cursor
        self._patterns = tuple(patterns)
        self._draining = draining
        self._open = ExitStack()
        self._watch: Watch | None = None
        self._listener: Listener | None = None
        self._spoke_at = trio.current_time()
        self._next = [opening(start.cursor)]
        if start.lost:
            self._next.append(lagged(start.cursor, lost=True))
        self._at_end = False
        """The reader has been at the log's end since it began."""
        self._closing = False
        self._limit = FIRST_BATCH

    async def __aenter__(self) -> Self:
        self._watch = watch = self._open.enter_context(self._log.watch())
        self._listener = self._open.enter_context(self._log.passing.listen(self._patterns, watch.wake))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece, once there is one."""
        while not self._next:
            if self._closing or self._draining.is_set():
                raise StopAsyncIteration
            try:
                await self._read()
            except StoreError:
                _log.warning("a stream ends at cursor %d: the log cannot be read", self._cursor)
                self._closing = True  # the reader comes back with its cursor
            if not self._next and trio.current_time() >= self._spoke_at + KEEP_ALIVE:
                self._next.append(quiet(self._cursor))
        self._spoke_at = trio.current_time()
        return self._next.pop(0)

    async def _read(self) -> None:
        """Read what is new; wait where nothing is, and return when something may be, or it is time to say a word."""
        assert self._listener is not None, "a stream is read inside its block"
        self._next.extend(map(passing_piece, self._listener.take()))
        events, cursor = await self._log.after(self._cursor, self._patterns, self._limit)
        if cursor == self._cursor:
            self._at_end = True
            if not self._next:
                await self._wait()
            return
        size = sum(len(event.body) for event in events)
        is_full = cursor - self._cursor >= self._limit or size >= BATCH_BYTES
        follows = bool(events) and events[0].cursor == self._cursor + 1
        if is_full or not follows:
            oldest, newest = await self._log.bounds()
            if not follows and 0 < self._cursor < oldest - 1:
                self._tell_and_close()  # cleaning overtook the reader; its next start is told what is lost
                return
            if self._at_end and newest - cursor > MAX_BEHIND:
                self._closing = True
        if events:
            self._next.append(b"".join(map(piece, events)))
            self._adapt(len(self._next[-1]))
        self._cursor = cursor
        if self._closing:
            self._tell_and_close()

    def _adapt(self, size: int) -> None:
        if size > BATCH_BYTES:
            self._limit = max(1, self._limit // 2)
        else:
            self._limit = min(BATCH, self._limit * 2)

    def _tell_and_close(self) -> None:
        self._next.append(lagged(self._cursor, lost=False))
        self._closing = True

    async def _wait(self) -> None:
        """Return when something was appended or told, when the daemon drains, or when it was quiet for long."""
        assert self._watch is not None, "a stream is read inside its block"
        with trio.move_on_at(self._spoke_at + KEEP_ALIVE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_then_cancel, self._draining.wait, nursery.cancel_scope)
                await self._watch.wait()
                nursery.cancel_scope.cancel()


async def _then_cancel(wait: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()


def opening(cursor: int) -> bytes:
    """Return how a stream begins: the id alone tells nothing, but one that breaks at once is resumed from it."""
    return b": econeura-daemon\nid: %d\nretry: 1000\n\n" % cursor


def quiet(cursor: int) -> bytes:
    """Return the word of a stream that has nothing to say.

    It tells how far the log was read, so that a reader for whom little is does not resume from long ago.
    """
    return b": \nid: %d\n\n" % cursor


def piece(event: StoredEvent) -> bytes:
    """Return one event as it is sent. Its body is compact JSON, so no line break stands in it."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.cursor, event.type.encode(), event.body)


def passing_piece(event: Event) -> bytes:
    """Return an event that is not stored: it has no cursor, so whoever resumes does so from the one before."""
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), event.body)


def lagged(cursor: int, *, lost: bool) -> bytes:
    """Return the word to a reader that is behind: where to resume, and whether something is gone for good."""
    return b"id: %d\nevent: lagged\ndata: %b\n\n" % (cursor, dumps({"cursor": cursor, "lost": lost}))
