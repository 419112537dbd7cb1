"""The store that works are handed to: a bounded queue before the writer, readers beside it, topics behind it."""

import logging
from collections.abc import AsyncGenerator, Sequence
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
        self._room = trio.Semaphore(queue)
        self._patience = patience
        self._readers = Readers(engine, readers)
        self._writer = Writer(engine, self._settle)
        self._closed = False
        self._groups = self._works = self._failures = 0
        self._last_commit_seconds = 0.0
        self._trouble: str | None = None

    async def transact(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction; waits while the queue is full."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._room.acquire_nowait()
        except trio.WouldBlock:
            await self._room.acquire()
        return cast("T", await self._handed_over(Submission(work)))

    async def ingest(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction, but refuse it rather than wait for long or fill the disk."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._room.acquire_nowait()
        except trio.WouldBlock:
            with trio.move_on_after(self._patience) as patience:
                await self._room.acquire()
            if patience.cancelled_caught:
                raise StoreBusyError(
                    f"{self._capacity} works wait for the database already; try again in a moment"
                ) from None
        return cast("T", await self._handed_over(Submission(work, ingest=True)))

    async def _handed_over(self, submission: Submission) -> Any:
        """Queue the work and wait for its result. The room for it is taken."""
        if self._closed:
            self._room.release()
            raise StoreUnavailableError("The store is closed")
        submission.holds_room = True
        return await self._written(submission)

    async def _written(self, submission: Submission) -> Any:
        submission.task = trio.lowlevel.current_task()

        def abandon(_raise_cancel: object) -> trio.lowlevel.Abort:
            submission.task = None  # the work happens all the same
            return trio.lowlevel.Abort.SUCCEEDED

        self._writer.put(submission)
        await trio.lowlevel.wait_task_rescheduled(abandon)
        if submission.error is not None:
            raise submission.error
        return submission.value

    def _settle(self, report: Report) -> None:
        """Bring a group's results to those who wait; runs on the loop, in the order of the commits."""
        self._trouble = report.trouble
        if not report.group:
            return
        self._groups += 1
        self._last_commit_seconds = report.seconds
        committed = [submission for submission in report.group if submission.error is None]
        self._works += len(committed)
        self._failures += len(report.group) - len(committed)
        settle(committed, self._topics)
        for submission in report.group:
            if submission.task is not None:
                trio.lowlevel.reschedule(submission.task)
            if submission.holds_room:
                self._room.release()

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
            queued=self._capacity - self._room.value,
            groups=self._groups,
            works=self._works,
            failures=self._failures,
            last_commit_seconds=self._last_commit_seconds,
            trouble=self._trouble,
        )

    async def ping(self) -> None:
        """Return once writer and database answered; takes no room in the queue."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise StoreUnavailableError("The store is closed")
        await self._written(Submission(_answer))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["EngineStore"]:
        """Run the writer for the length of the block; what was queued is committed before the block is left."""
        self._writer.start()
        try:
            yield self
        finally:
            self._closed = True
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
            except Exception:  # one's bug must not keep the others from their results
                _log.exception("An action after a commit failed")
        announced.update(dict.fromkeys(submission.topics))
    topics.wake(announced)


def _answer(connection: Connection) -> None:
    connection.execute(sa.select(sa.literal(1)))
