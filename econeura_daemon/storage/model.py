"""What the store offers: works, transactions, topics."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs

if TYPE_CHECKING:  # a model knows no SQL
    from econeura_daemon.storage.connection import Connection

T = TypeVar("T")

Work = Callable[["Connection"], T]
"""A plain synchronous function that runs in a worker thread, inside one transaction.

It has no side effects but through the connection (it may run more than once), and reads no results where it
can help it.
"""


@attrs.frozen
class Claimant:
    """Who claims: this run of this daemon; ``lease_ms`` None where claims do not lapse by time (SQLite)."""

    daemon_id: str
    run_id: str
    lease_ms: int | None

    @property
    def mark(self) -> str:
        """What a claim carries."""
        return f"{self.daemon_id}/{self.run_id}"


@attrs.frozen
class StoreStatistics:
    """How the store is doing, for health and metrics."""

    backend: str
    """``sqlite`` or ``postgresql``."""
    queued: int
    """Works that wait for the writer."""
    groups: int
    """Groups that were committed since the start."""
    works: int
    """Works that were committed since the start."""
    failures: int
    """Works that failed since the start."""
    last_commit_seconds: float
    """How long the last group took, from its first work to the end of its commit."""
    trouble: str | None
    """Why the store refuses works at present, in words; None when it is well."""


@attrs.frozen
class CheckReport:
    """What `storage.backup.check` found."""

    place: str
    """The file, or ``PostgreSQL``."""
    version: int
    """The schema's version; 0: nothing is there yet."""
    newest: int
    """The version that this program brings the schema to."""
    flaws: tuple[str, ...]
    """What is damaged; empty if the store is sound."""


class Watch(Protocol):
    """Wakes its one waiter when its topic was announced, or `wake` called, since the last return."""

    async def wait(self) -> None:
        """Return at once if the topic was announced since the last return, else when it is."""
        ...

    def wake(self) -> None:
        """Wake the waiter, on the event loop."""
        ...


class Store(Protocol):
    """A database with one writer. Errors are the `StoreError` of `core.errors`, or what the work raised."""

    async def transact(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction and return its result once that is committed.

        Waits while the queue is full. Cancelled while it waits for room: nothing happens. Once queued, the
        work happens, whether somebody still waits for it or not. A work that raises fails alone: its changes
        are undone, others of the same group are not.
        """
        ...

    async def ingest(self, work: Work[T]) -> T:
        """Run ``work`` like `transact`, for work that the daemon may refuse: what comes in from outside.

        Raises `StoreBusyError` when the queue stays full for a moment (1 s unless the store was opened
        otherwise), and `StoreFullError` when the database has outgrown ``storage.max_bytes``. Works that
        bring the daemon's own state forward (outcomes, claims, cleaning) use `transact`, and so go on.
        """
        ...

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` on a reading connection, in one consistent view, beside the writer."""
        ...

    def watch(self, topic: str) -> AbstractContextManager[Watch]:
        """Watch ``topic`` for the length of the block: see `Connection.announce`."""
        ...

    def statistics(self) -> StoreStatistics:
        """Tell how the store is doing."""
        ...

    def observe_commits(self, tell: Callable[[float], object]) -> None:
        """Have ``tell`` called on the event loop with the seconds that each group took."""
        ...

    async def ping(self) -> None:
        """Return once writer and database answered; raise a `StoreError` if they cannot."""
        ...
