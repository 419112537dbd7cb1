"""A store that runs its works in the loop: for tests under ``autojump_clock``, which overtakes worker threads.

It is the real SQLite engine, in memory, with the same `Connection`; what it cannot show is what groups do.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, TypeVar, cast

import trio

from econeura_daemon.storage.model import StoreStatistics, Watch, Work
from econeura_daemon.storage.opening import prepare_sqlite
from econeura_daemon.storage.sqlite import SqliteEngine, SqliteReader
from econeura_daemon.storage.store import settle
from econeura_daemon.storage.topics import Topics
from econeura_daemon.storage.works import Submission

T = TypeVar("T")


class InlineStore:
    """A `Store` without threads. Set ``trouble`` to a `StoreError` and works are refused with it."""

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self._topics = Topics()
        self._works = self._failures = 0
        self.trouble: Exception | None = None

    async def transact(self, work: Work[T]) -> T:
        """Run ``work`` after one checkpoint; cancelled there, nothing happens."""
        return cast("T", await self._commit(Submission(work)))

    async def ingest(self, work: Work[T]) -> T:
        """Run ``work`` as `transact` does: there is no queue that could be full."""
        return cast("T", await self._commit(Submission(work, ingest=True)))

    async def _commit(self, submission: Submission) -> Any:
        await trio.lowlevel.checkpoint()
        if self.trouble is not None:
            raise self.trouble
        self._engine.commit([submission])
        if submission.error is not None:
            self._failures += 1
            raise submission.error
        self._works += 1
        settle([submission], self._topics)
        return submission.value

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` after one checkpoint, on the one connection; what it writes is rolled back."""
        await trio.lowlevel.checkpoint()
        if self.trouble is not None:
            raise self.trouble
        return cast("T", SqliteReader(self._engine.open(), ":memory:").read(work))

    def watch(self, topic: str) -> AbstractContextManager[Watch]:
        """Watch ``topic`` for the length of the block."""
        return self._topics.watch(topic)

    def announce_from_elsewhere(self, topic: str) -> None:
        """Wake those who watch ``topic``, as another daemon's announcement would."""
        self._topics.wake([topic])

    def statistics(self) -> StoreStatistics:
        """Tell how the store is doing; every work is a group of its own."""
        return StoreStatistics(
            backend="sqlite",
            queued=0,
            groups=self._works,
            works=self._works,
            failures=self._failures,
            last_commit_seconds=0.0,
            trouble=None if self.trouble is None else str(self.trouble),
        )

    def observe_commits(self, tell: Callable[[float], object]) -> None:
        """Tell nothing: there are no groups here."""

    async def ping(self) -> None:
        """Answer."""
        await self.transact(lambda _connection: None)


@asynccontextmanager
async def open_inline_store() -> AsyncGenerator[InlineStore]:
    """Open a migrated store in memory for the length of the block."""
    engine = SqliteEngine(None)
    prepare_sqlite(engine, None)
    try:
        yield InlineStore(engine)
    finally:
        engine.close()
