"""What a work sees of the database: one transaction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from econeura_daemon.storage.hot import Hot


class Connection(Protocol):
    """One transaction (of a group), or one consistent view for reading. Only valid while the work runs."""

    @property
    def backend(self) -> str:
        """``sqlite`` or ``postgresql``."""
        ...

    def execute(
        self,
        statement: sa.Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> sa.CursorResult[Any]:
        """Run a SQLAlchemy Core statement and return its result."""
        ...

    def run(self, hot: Hot, rows: Iterable[Sequence[Any]]) -> None:
        """Run a hot statement on the driver, once a row of parameters; PostgreSQL is not waited for."""
        ...

    def rows(self, hot: Hot, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a hot statement on the driver and return its rows (on PostgreSQL: a round trip)."""
        ...

    def lock(self, name: str) -> None:
        """Hold the lock ``name`` until the transaction ends. SQLite's one writer makes it a no-op."""
        ...

    def announce(self, topic: str) -> None:
        """Once committed, wake who watches ``topic``: in this process, and on PostgreSQL in every daemon."""
        ...

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call ``action`` on the event loop once this work is committed, before its caller gets the result.

        Actions run in the order of the commits and must not raise or block.
        """
        ...

    def on_rollback(self, action: Callable[[], None]) -> None:
        """Call ``action`` (in the writer's thread) if the work's changes are undone, or it runs again."""
        ...
