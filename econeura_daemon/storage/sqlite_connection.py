"""A connection to SQLite: hot statements run on the driver, the rest through SQLAlchemy Core on the same one."""

import sqlite3  # noqa: TID251 - this is the engine's connection
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from econeura_daemon.storage.dialect import SQLITE
from econeura_daemon.storage.hot import Hot
from econeura_daemon.storage.works import Notes

BUSY_SECONDS = 2.0
"""How long the writer waits for a lock that another program holds (a shell, a backup tool) before works
fail."""


def connect(path: str, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the existing database at ``path`` without any transaction handling of the driver's own."""
    uri = path if path == ":memory:" else f"file:{quote(path)}?mode={'ro' if read_only else 'rw'}"
    return sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        timeout=BUSY_SECONDS,
    )


class SqliteConnection(Notes):
    """A `Connection` on SQLite."""

    backend = SQLITE

    def __init__(self, core: sa.Connection) -> None:
        self._core = core
        driver = core.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self.driver = driver
        self._results: list[sa.CursorResult[Any]] = []

    def execute(
        self,
        statement: sa.Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> sa.CursorResult[Any]:
        """See `Connection.execute`."""
        result = self._core.execute(statement, parameters)
        if result.returns_rows:
            self._results.append(result)
        return result

    def run(self, hot: Hot, rows: Iterable[Sequence[Any]]) -> None:
        """See `Connection.run`."""
        compiled = hot.compiled(SQLITE)
        self.driver.executemany(
            compiled.text, rows if compiled.arrange is None else map(compiled.arrange, rows)
        )

    def rows(self, hot: Hot, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See `Connection.rows`."""
        compiled = hot.compiled(SQLITE)
        cursor = self.driver.execute(
            compiled.text, parameters if compiled.arrange is None else compiled.arrange(parameters)
        )
        return cursor.fetchall()

    def lock(self, name: str) -> None:
        """See `Connection.lock`: one writer needs none."""

    def close_results(self) -> None:
        """Close what the work left unread: an open cursor would hold the view and block checkpoints."""
        for result in self._results:
            result.close()
        self._results.clear()

    def close(self) -> None:
        """Close the driver's connection."""
        with suppress(sa.exc.DBAPIError, sqlite3.Error):
            self._core.close()


def core_engine(creator: Callable[[], sqlite3.Connection]) -> sa.Engine:
    """Return a SQLAlchemy engine that leaves transactions alone: we begin and commit on the driver."""
    return sa.create_engine(
        "sqlite://",
        creator=creator,
        poolclass=sa.NullPool,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
    )
