"""A concurrency limit that finds out by itself how much is too much."""

import enum
from types import TracebackType
from typing import final

import attrs
import trio

from econeura_daemon.primitives.judging import is_drop
from econeura_daemon.primitives.slots import Slots
from econeura_daemon.resilience.adaptive import AdaptivePolicy


class Sample(enum.Enum):
    """What a call says about the limit."""

    SUCCESS = "success"
    """It may grow by one, if it is made use of."""
    DROP = "drop"
    """It was too much: a timeout, a 429, a 503. The limit shrinks by a tenth."""
    IGNORED = "ignored"
    """Nothing: it was cancelled, or failed for another reason."""


class LimitedCall:
    """A call within an adaptive limit; say by `report` what an exception does not say."""

    __slots__ = ("_sample",)

    def __init__(self) -> None:
        self._sample: Sample | None = None

    def report(self, sample: Sample) -> None:
        """Say what the call says about the limit; the last word counts, before any exception."""
        self._sample = sample


@attrs.frozen
class AdaptiveLimiterStatistics:
    """How full a limiter is, and what it allows."""

    borrowed: int
    limit: int
    """At present."""
    minimum: int
    maximum: int
    borrowers: tuple[object, ...]
    tasks_waiting: int
    max_waiting: float
    drops: int
    """Calls that made the limit shrink, since the start."""


@final
class AdaptiveLimiter(Slots):
    """At most ``limit`` at once, where the limit grows with success and shrinks with drops (AIMD).

    ::

        async with limiter as call:   # waits; QueueFullError, at once, if too many wait already
            response = await client.get(url)
            if response.status_code in (429, 503):
                call.report(Sample.DROP)

    Without a `report`, leaving the block normally is a success, a `trio.TooSlowError` (a timeout within the
    block) is a drop, and any other exception is ignored, a cancellation above all.
    """

    _limit: int

    def __init__(
        self,
        policy: AdaptivePolicy | None = None,
        *,
        max_waiting: float = 100,
        name: str = "The adaptive limiter",
    ) -> None:
        self._policy = policy or AdaptivePolicy()
        self._drops = 0
        self._calls: dict[object, LimitedCall] = {}
        super().__init__(self._policy.initial, max_waiting, name)

    @property
    def limit(self) -> int:
        """How many slots there are at present."""
        return self._limit

    @property
    def policy(self) -> AdaptivePolicy:
        """By what the limit moves. It can be set: the limit stays, within the new bounds; nobody loses a slot."""
        return self._policy

    @policy.setter
    def policy(self, policy: AdaptivePolicy) -> None:
        self._policy = policy
        self._limit = min(max(self._limit, policy.minimum), policy.maximum)
        self._hand_over()

    @trio.lowlevel.enable_ki_protection
    def release(self, sample: Sample = Sample.SUCCESS) -> None:
        """Give the current task's slot back. Raises RuntimeError if it holds none."""
        self.release_on_behalf_of(trio.lowlevel.current_task(), sample)

    @trio.lowlevel.enable_ki_protection
    def release_on_behalf_of(self, borrower: object, sample: Sample = Sample.SUCCESS) -> None:
        """Give the slot of ``borrower`` back. Raises RuntimeError if it holds none."""
        in_flight = len(self._borrowers)
        self._give(borrower)
        if sample is Sample.SUCCESS:
            self._limit = self._policy.after_success(self._limit, in_flight)
        elif sample is Sample.DROP:
            self._limit = self._policy.after_drop(self._limit)
            self._drops += 1
        self._hand_over()

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> LimitedCall:
        task = trio.lowlevel.current_task()
        await self.acquire_on_behalf_of(task)
        call = self._calls[task] = LimitedCall()
        return call

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = trio.lowlevel.current_task()
        reported = self._calls.pop(task)._sample  # noqa: SLF001 - the two classes are one thing
        self.release_on_behalf_of(task, reported or _sample_of(error))

    def statistics(self) -> AdaptiveLimiterStatistics:
        """Return how full the limiter is, and what it allows."""
        return AdaptiveLimiterStatistics(
            borrowed=len(self._borrowers),
            limit=self._limit,
            minimum=self._policy.minimum,
            maximum=self._policy.maximum,
            borrowers=tuple(self._borrowers),
            tasks_waiting=len(self._queue),
            max_waiting=self._max_waiting,
            drops=self._drops,
        )


def _sample_of(error: BaseException | None) -> Sample:
    if error is None:
        return Sample.SUCCESS
    return Sample.DROP if is_drop(error) else Sample.IGNORED
