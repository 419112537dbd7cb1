"""A budget that all calls of a service share, so that retries do not become the load."""

from collections.abc import Callable
from types import TracebackType
from typing import final

import attrs
import trio

from econeura_daemon.primitives.errors import BudgetExhaustedError
from econeura_daemon.resilience.budget import Budget, BudgetPolicy
from econeura_daemon.resilience.refusal import Refusal


@attrs.frozen
class RetryBudgetStatistics:
    """What is under way, and what the last seconds saw."""

    calls_in_flight: int
    retries_in_flight: int
    calls: int
    """Calls that began within the window."""
    retries: int
    """Retries that began within the window."""
    refusal: Refusal | None
    """Why a retry would be refused now; None: it would not."""


class _Borrowers:
    """Who has one under way: `acquire` and `release` in their six forms."""

    __slots__ = ("_begin", "_borrowers", "_end", "_noun")

    def __init__(self, noun: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._noun = noun
        self._begin = begin
        self._end = end
        self._borrowers: set[object] = set()

    @trio.lowlevel.enable_ki_protection
    def acquire_nowait(self) -> None:
        """Begin one of the current task. Raises RuntimeError if the task has one under way."""
        self.acquire_on_behalf_of_nowait(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Begin one of ``borrower``, which is any hashable object."""
        if borrower in self._borrowers:
            raise RuntimeError(f"{borrower!r} has a {self._noun} under way already")
        self._begin()
        self._borrowers.add(borrower)

    @trio.lowlevel.enable_ki_protection
    async def acquire(self) -> None:
        """Begin one of the current task; a checkpoint."""
        await self.acquire_on_behalf_of(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Begin one of ``borrower``; a checkpoint."""
        await trio.lowlevel.checkpoint()
        self.acquire_on_behalf_of_nowait(borrower)

    @trio.lowlevel.enable_ki_protection
    def release(self) -> None:
        """End that of the current task. Raises RuntimeError if it has none under way."""
        self.release_on_behalf_of(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    def release_on_behalf_of(self, borrower: object) -> None:
        """End that of ``borrower``. Raises RuntimeError if it has none under way."""
        try:
            self._borrowers.remove(borrower)
        except KeyError:
            raise RuntimeError(f"{borrower!r} has no {self._noun} under way") from None
        self._end()

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> None:
        await self.acquire()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@final
class Retries(_Borrowers):
    """The retries of a budget. Each of the ``acquire`` forms raises `BudgetExhaustedError`, nobody waits."""

    __slots__ = ()


@final
class RetryBudget(_Borrowers):
    """Knows the calls of a service, and says whether one more retry fits among them.

    ::

        async with budget:                      # one call, however many attempts it makes
            try:
                return await attempt()
            except OSError:
                async with budget.retries:      # BudgetExhaustedError if there is no room for it
                    return await attempt()
    """

    __slots__ = ("_budget", "_name", "retries")

    def __init__(self, policy: BudgetPolicy | None = None, *, name: str = "The retry budget") -> None:
        budget = self._budget = Budget(policy)
        self._name = name
        super().__init__("call", self._begin_call, budget.end)
        self.retries = Retries("retry", self._begin_retry, budget.end_retry)
        """What retries are acquired from."""

    def __repr__(self) -> str:
        budget = self._budget
        return (
            f"<{type(self).__module__}.RetryBudget at {id(self):#x}, {budget.in_flight} calls, "
            f"{budget.active} retries in flight>"
        )

    def statistics(self) -> RetryBudgetStatistics:
        """Return what is under way, and what the last seconds saw."""
        now, budget = trio.current_time(), self._budget
        calls, retries = budget.counts(now)
        return RetryBudgetStatistics(budget.in_flight, budget.active, calls, retries, budget.refusal(now))

    def _begin_call(self) -> None:
        self._budget.begin(trio.current_time())

    def _begin_retry(self) -> None:
        refusal = self._budget.begin_retry(trio.current_time())
        if refusal is not None:
            raise BudgetExhaustedError(self._name, refusal.reason, refusal.until)
