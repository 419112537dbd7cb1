"""The store that works are handed to: a bounded queue, the writer, readers beside it, topics behind it."""

import logging
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, TypeVar, cast

import sqlalchemy as sa
import trio

from econeura_daemon.core.errors import StoreBusyError, StoreUnavailableError
from econeura_daemon.storage.connection import Connection
from econeura_daemon.storage.engine import Engine
from econeura_daemon.storage.model import StoreStatistics, Watch, Work
from econeura_daemon.storage.readers import Readers
from econeura_daemon.storage.topics import Topics
from econeura_daemon.storage.works import Submission
from econeura_daemon.storage.writer import Report, Writer

T = TypeVar("T")

CLOSE_SECONDS = 15.0
"""How long leaving the block waits for the queue to empty and the database to close."""

_log = logging.getLogger(__name__)


class EngineStore:
    """A `Store` on any engine: see `storage.model.Store`."""

    def __init__(self, engine: Engine, topics: Topics, *, queue: int, readers: int, patience: float) -> None:
        self._engine = engine
        self._topics = topics
        self._capacity = queue
        self._taken = 0
        self._waiting: dict[
            Submission, None
        ] = {}  # tasks that wake together run in any order; these keep theirs
        self._patience = patience
        self._readers = Readers(engine, readers)
        self._writer = Writer(engine, self._settle)
        self._closed = False
        self._groups = self._works = self._failures = 0
        self._last_commit_seconds = 0.0
        self._tell_commit: Callable[[float], object] | None = None
        self._trouble: str | None = None

    async def transact(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction; waits while the queue is full."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return cast("T", await self._result(Submission(work)))

    async def ingest(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction, but refuse it rather than wait for long or fill the disk."""
        await trio.lowlevel.checkpoint_if_cancelled()
        submission = Submission(work, ingest=True)
        if self._taken < self._capacity:
            return cast("T", await self._result(submission))
        with trio.move_on_after(self._patience) as submission.patience:
            return cast("T", await self._result(submission))
        raise StoreBusyError(f"{self._capacity} works wait for the database already; try again in a moment")

    async def _result(self, submission: Submission) -> Any:
        """Queue the work, or have it wait for room, in the order of asking; return its result."""
        if self._closed:
            raise StoreUnavailableError("The store is closed")
        submission.task = trio.lowlevel.current_task()
        if submission.takes_room and self._taken >= self._capacity:
            self._waiting[submission] = None
        else:
            self._queue(submission)

        def abandon(_raise_cancel: object) -> trio.lowlevel.Abort:
            submission.task = None
            self._waiting.pop(submission, None)  # if it is queued already, it happens all the same
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abandon)
        if submission.error is not None:
            raise submission.error
        return submission.value

    def _queue(self, submission: Submission) -> None:
        if submission.takes_room:
            self._taken += 1
        if submission.patience is not None:
            submission.patience.deadline = math.inf
        self._writer.put(submission)

    def _settle(self, report: Report) -> None:
        """Bring a group's results to those who wait; runs on the loop, in the order of the commits."""
        self._trouble = report.trouble
        if not report.group:
            return
        self._groups += 1
        self._last_commit_seconds = report.seconds
        if self._tell_commit is not None:
            self._tell_commit(report.seconds)
        committed = [submission for submission in report.group if submission.error is None]
        self._works += len(committed)
        self._failures += len(report.group) - len(committed)
        settle(committed, self._topics)
        for submission in report.group:
            if submission.task is not None:
                trio.lowlevel.reschedule(submission.task)
            self._taken -= submission.takes_room
        while self._waiting and self._taken < self._capacity:
            submission = next(iter(self._waiting))
            del self._waiting[submission]
            self._queue(submission)

    def _turn_away(self) -> None:
        """Refuse those who wait for room: the writer takes nothing more."""
        for submission in self._waiting:
            submission.error = StoreUnavailableError("The store is closed")
            assert submission.task is not None
            trio.lowlevel.reschedule(submission.task)
        self._waiting.clear()

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` on a reading connection."""
        if self._closed:
            raise StoreUnavailableError("The store is closed")
        return await self._readers.read(work)

    def watch(self, topic: str) -> AbstractContextManager[Watch]:
        """Watch ``topic`` for the length of the block."""
        return self._topics.watch(topic)

    def statistics(self) -> StoreStatistics:
        """Tell how the store is doing."""
        return StoreStatistics(
            backend=self._engine.backend,
            queued=self._taken + len(self._waiting),
            groups=self._groups,
            works=self._works,
            failures=self._failures,
            last_commit_seconds=self._last_commit_seconds,
            trouble=self._trouble,
        )

    def observe_commits(self, tell: Callable[[float], object]) -> None:
        """Have ``tell`` called on the event loop with the seconds that each group took."""
        self._tell_commit = tell

    async def ping(self) -> None:
        """Return once writer and database answered; takes no room in the queue."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._result(Submission(_answer, takes_room=False))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["EngineStore"]:
        """Run the writer for the length of the block; leaving it commits what was queued."""
        self._writer.start()
        try:
            yield self
        finally:
            self._closed = True
            self._turn_away()
            with trio.move_on_after(CLOSE_SECONDS, shield=True) as patience:
                await self._readers.close()
                await self._writer.stop()
            if patience.cancelled_caught:
                _log.error(
                    "The database did not close within %g s; it is left to its own recovery", CLOSE_SECONDS
                )

    def __repr__(self) -> str:
        return f"<EngineStore {self.statistics()}>"


def settle(committed: Sequence[Submission], topics: Topics) -> None:
    """Do what committed works asked to be done after their commit."""
    announced: dict[str, None] = {}
    for submission in committed:
        for action in submission.actions:
            try:
                action()
            except Exception:  # noqa: BLE001 - one's bug must not keep the others from their results
                _log.exception("An action after a commit failed")
        announced.update(dict.fromkeys(submission.topics))
    topics.wake(announced)


def _answer(connection: Connection) -> None:
    connection.execute(sa.select(sa.literal(1)))
