"""SQLite: one connection that does all writes and all checkpoints, others that only read.

That one connection does both is also what keeps clear of the WAL-reset bug of SQLite 3.7.0 to 3.51.2, where a
checkpoint that races a commit on a second connection can corrupt the database
(https://sqlite.org/wal.html#walresetbug).
"""

import sqlite3  # noqa: TID251 - this is the engine
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from econeura_daemon.core.errors import OutcomeUnknownError, StoreFullError, StoreUnavailableError
from econeura_daemon.storage.dialect import SQLITE
from econeura_daemon.storage.model import Work
from econeura_daemon.storage.sqlite_connection import SqliteConnection, connect, core_engine
from econeura_daemon.storage.sqlite_errors import doubts_connection, driver_error, translate
from econeura_daemon.storage.works import Submission

CHECKPOINT_CHANGES = 2_000
"""Rows changed after which a checkpoint follows, once the results are out. A row costs one to three pages of
WAL, so that the file stays in the region of SQLite's own default of 1,000 pages and a checkpoint below 20
ms."""

AUTOCHECKPOINT_PAGES = 8_000
"""The bound at which SQLite checkpoints inside a commit (32 MB), should ours not get through."""

WAL_BYTES = 64 * 1024 * 1024
"""What the WAL file is cut down to when it starts again."""


class SqliteReader:
    """One connection for reading."""

    def __init__(self, connection: SqliteConnection, place: str) -> None:
        self._connection = connection
        self._place = place
        self.broken = False

    def read(self, work: Work[Any]) -> Any:
        """Run ``work`` in one consistent view."""
        connection = self._connection
        try:
            connection.driver.execute("BEGIN")
            return work(connection)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            self.broken = self.broken or doubts_connection(error)
            raise translate(error, self._place) from driver_error(error)
        finally:
            connection.close_results()
            with suppress(sqlite3.Error):
                connection.driver.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class SqliteEngine:
    """The writing connection: groups, savepoints, checkpoints."""

    backend = SQLITE

    def __init__(self, path: Path | None, *, synchronous: str = "full", max_bytes: int = 0) -> None:
        self._path = ":memory:" if path is None else str(path)
        self._synchronous = synchronous
        self._max_bytes = max_bytes
        self._core = core_engine(self._connect)
        self._reading_core = core_engine(lambda: connect(self._path, read_only=True))
        self._connection: SqliteConnection | None = None
        self._page_bytes = 4096
        self._checkpointed_at = 0
        self._checkpoint_due = False

    def _connect(self) -> sqlite3.Connection:
        driver = connect(self._path)
        try:
            for pragma in (
                "trusted_schema = OFF",
                "journal_mode = WAL",
                f"synchronous = {self._synchronous.upper()}",
                f"wal_autocheckpoint = {AUTOCHECKPOINT_PAGES}",
                f"journal_size_limit = {WAL_BYTES}",
                "cache_size = -32768",  # KiB
                "mmap_size = 0",  # an I/O error under mmap is a SIGBUS
                "temp_store = MEMORY",
            ):
                driver.execute(f"PRAGMA {pragma}").fetchall()
            (self._page_bytes,) = driver.execute("PRAGMA page_size").fetchone()
        except BaseException:
            driver.close()
            raise
        return driver

    def open(self) -> SqliteConnection:
        """Return the writing connection, opened if need be. Raises `StoreError`."""
        if self._connection is None:
            try:
                self._connection = SqliteConnection(self._core.connect())
            except (sa.exc.DBAPIError, sqlite3.Error) as error:
                raise translate(error, self._path) from driver_error(error)
            self._checkpointed_at = 0
        return self._connection

    def commit(self, group: Sequence[Submission]) -> None:
        """Run and commit ``group``, each work in a savepoint of its own; see `Engine.commit`."""
        if not self._commit_together(group):
            for submission in reversed(group):  # as they were done one upon the other, so they are undone
                submission.again()
            for submission in group:
                self._commit_together([submission])

    def _commit_together(self, group: Sequence[Submission]) -> bool:
        """Run ``group`` in one transaction; False if it has to be run again, each work in its own."""
        try:
            connection = self.open()
            connection.driver.execute("BEGIN IMMEDIATE")
            refusal = self.trouble()
        except Exception as error:  # noqa: BLE001 - every work of the group gets it
            self._fail(group, error)
            return True
        for submission in group:
            if submission.ingest and refusal is not None:
                submission.fail(StoreFullError(refusal))
            elif not self._run(connection, submission):
                return len(group) == 1
        try:
            connection.driver.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            self._fail(group, error, committing=True)
        self._checkpoint_due = True
        return True

    def _run(self, connection: SqliteConnection, submission: Submission) -> bool:
        """Run one work in a savepoint; False if SQLite, or we, had to roll back the whole transaction."""
        connection.submission = submission
        try:
            connection.driver.execute("SAVEPOINT work")
            submission.value = submission.work(connection)
            connection.close_results()
            connection.driver.execute("RELEASE work")
        except BaseException as error:  # noqa: BLE001 - whatever the work raised is its caller's
            connection.close_results()
            submission.fail(translate(error, self._path))
            if not connection.driver.in_transaction or doubts_connection(error):
                # SQLite can roll back everything by itself; and a damaged page is nothing to build on.
                self._roll_back(connection)
                self._doubt(error)
                return False
            try:
                connection.driver.execute("ROLLBACK TO work")
                connection.driver.execute("RELEASE work")
            except sqlite3.Error:
                self._roll_back(connection)
                return False
        finally:
            connection.submission = None
        return True

    def _fail(self, group: Sequence[Submission], error: Exception, *, committing: bool = False) -> None:
        """Give every work an error of its own: tracebacks grow where exceptions are raised."""
        self._doubt(error)
        for submission in reversed(group):
            own = translate(error, self._path)
            if committing and getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_FSYNC":
                # The frames are in the WAL, and a crash before the next commit would find them complete.
                own = OutcomeUnknownError(
                    f"The database {self._path} lost its disk during a commit ({error})"
                )
            elif own is error:
                own = StoreUnavailableError(
                    f"The database {self._path} did not take a group of works ({error!r})"
                )
            submission.fail(own)

    def _doubt(self, error: BaseException) -> None:
        if doubts_connection(error) and self._path != ":memory:":
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _roll_back(self, connection: SqliteConnection) -> None:
        try:
            if connection.driver.in_transaction:
                connection.driver.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop()

    def trouble(self) -> str | None:
        """Tell whether the database has outgrown ``max_bytes``; pages that deletions freed do not count."""
        if not self._max_bytes or self._connection is None:
            return None
        driver = self._connection.driver
        (pages,) = driver.execute("PRAGMA page_count").fetchone()
        (free,) = driver.execute("PRAGMA freelist_count").fetchone()
        used = (pages - free) * self._page_bytes
        if used <= self._max_bytes:
            return None
        return (
            f"The database {self._path} holds {used} bytes, more than storage.max_bytes ({self._max_bytes}) "
            "allows: raise it, or wait until old events are cleaned up"
        )

    def tidy(self) -> None:
        """Checkpoint after enough changes; called when the results of a group are out."""
        if self._connection is not None:
            changes = self._connection.driver.total_changes
            if changes - self._checkpointed_at >= CHECKPOINT_CHANGES:
                self._checkpointed_at = changes
                self._checkpoint("PASSIVE")

    def rest(self) -> bool:
        """Checkpoint what is left of the WAL; True once nothing is left (a reader may hold a part back)."""
        self.open()
        if self._checkpoint_due and self._checkpoint("PASSIVE"):
            self._checkpoint_due = False
        return not self._checkpoint_due

    def _checkpoint(self, mode: str) -> bool:
        if self._connection is None or self._path == ":memory:":
            return True
        try:
            row = self._connection.driver.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:
            self._doubt(error)
            return False
        busy, pages, done = row
        return not busy and pages == done

    def open_reader(self) -> SqliteReader:
        """Open a connection that cannot write."""
        try:
            return SqliteReader(SqliteConnection(self._reading_core.connect()), self._path)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise translate(error, self._path) from driver_error(error)

    def close(self) -> None:
        """Leave one file behind: the WAL is checkpointed and cut to nothing."""
        self._checkpoint("TRUNCATE")
        self._drop()
