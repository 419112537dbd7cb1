"""A rate limit whose callers wait their turn."""

from math import inf
from types import TracebackType
from typing import final

import attrs
import trio

from econeura_daemon.primitives.errors import QueueFullError, RateLimitedError
from econeura_daemon.resilience.bucket import TokenBucket


@attrs.frozen
class RateLimiterStatistics:
    """How much of the rate is left."""

    rate: float
    """Tokens a second."""
    burst: float
    tokens: float
    """What could be taken at once now."""
    tasks_waiting: int
    max_waiting: float


@final
class RateLimiter:
    """Lets ``rate`` calls a second begin, and ``burst`` at once after a rest.

    ::

        async with limiter:           # waits; QueueFullError, at once, if too many wait already
            await send()

    Waiting is first come, first served, also for those that want several tokens. Whoever leaves the queue, by a
    deadline or otherwise, takes nothing, and those behind move up. There is nothing to give back.
    """

    def __init__(
        self, rate: float, burst: float = 1.0, *, max_waiting: float = 100, name: str = "The rate limiter"
    ) -> None:
        if max_waiting != inf and not (isinstance(max_waiting, int) and max_waiting >= 0):
            raise ValueError(f"expected max_waiting to be an int >= 0 or math.inf, got {max_waiting!r}")
        self._bucket = TokenBucket(rate, burst)
        self._max_waiting = max_waiting
        self._name = name
        self._turn = trio.StrictFIFOLock()  # whoever holds it is the first, and sleeps for its tokens
        self._waiting = 0

    def __repr__(self) -> str:
        return (
            f"<{type(self).__module__}.RateLimiter at {id(self):#x}, {self._bucket.rate:g}/s "
            f"with {self._waiting} waiting>"
        )

    @trio.lowlevel.enable_ki_protection
    def acquire_nowait(self, tokens: float = 1.0) -> None:
        """Take so many tokens. Raises `RateLimitedError`, which is a `trio.WouldBlock`.

        Raises ValueError if there are never so many at once.
        """
        now = trio.current_time()
        ready = self._bucket.ready_at(now, tokens)
        if self._waiting:
            reason = f"{self._waiting} callers wait for the next token"
            raise RateLimitedError(self._name, reason)
        if not self._bucket.take(now, tokens):
            raise RateLimitedError(self._name, f"{self._bucket.rate:g} a second are allowed", ready)

    @trio.lowlevel.enable_ki_protection
    async def acquire(self, tokens: float = 1.0) -> None:
        """Take so many tokens, waiting for them if need be; a checkpoint.

        Raises `QueueFullError` if no more callers may wait, ValueError as `acquire_nowait` does.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        now = trio.current_time()
        self._bucket.ready_at(now, tokens)  # says at once what can never be
        if not self._waiting and self._bucket.take(now, tokens):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        if self._waiting >= self._max_waiting:
            reason = f"{self._waiting} callers wait for {self._bucket.rate:g} tokens a second"
            await trio.lowlevel.checkpoint()  # who tries again and again must not keep others from their turn
            raise QueueFullError(self._name, reason)
        self._waiting += 1
        try:
            async with self._turn:
                while not self._bucket.take(now := trio.current_time(), tokens):  # noqa: ASYNC110 - time is awaited
                    await trio.sleep_until(self._bucket.ready_at(now, tokens))
        finally:
            self._waiting -= 1

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: a rate is not given back."""

    def statistics(self) -> RateLimiterStatistics:
        """Return how much of the rate is left."""
        return RateLimiterStatistics(
            rate=self._bucket.rate,
            burst=self._bucket.burst,
            tokens=self._bucket.tokens(trio.current_time()),
            tasks_waiting=self._waiting,
            max_waiting=self._max_waiting,
        )
