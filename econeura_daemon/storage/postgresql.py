"""PostgreSQL: a group of works is one transaction, sent through one pipeline.

If anything in it fails, everything is rolled back and the works run again, each half of them in a transaction of
its own, until what fails stands alone: a savepoint a work would cost a third of the throughput. One that fails
each time costs its group a commit for each halving, not one for each of the others.
"""

import enum
import time
from collections.abc import Sequence
from typing import Any

import attrs
import psycopg
import sqlalchemy as sa

from econeura_daemon.core.errors import OutcomeUnknownError, StoreError, StoreUnavailableError
from econeura_daemon.storage.dialect import POSTGRESQL
from econeura_daemon.storage.model import Work
from econeura_daemon.storage.postgresql_connection import PostgresqlConnection, core_engine
from econeura_daemon.storage.postgresql_errors import (
    driver_error,
    translate,
    worth_a_new_connection,
    worth_another_try,
)
from econeura_daemon.storage.works import Submission

FIRST_BACKOFF_SECONDS = 0.1
LAST_BACKOFF_SECONDS = 5.0
"""Between two attempts to reconnect; doubled from one to the next. Works fail at once meanwhile."""

TRIES = 5
"""How often one work is tried when it loses races (deadlocks) against other daemons."""


class _Fate(enum.Enum):
    """What became of a transaction that did not succeed."""

    ROLLED_BACK = enum.auto()
    LOST = enum.auto()  # before the commit was sent: nothing is stored
    UNKNOWN = enum.auto()  # the commit was sent
    UNREACHABLE = enum.auto()  # it never began


@attrs.frozen
class _Failure:
    error: BaseException
    fate: _Fate


class PostgresqlReader:
    """One connection for reading."""

    def __init__(self, connection: PostgresqlConnection) -> None:
        self._connection = connection
        self.broken = False

    def read(self, work: Work[Any]) -> Any:
        """Run ``work`` in one consistent view."""
        connection = self._connection
        try:
            connection.begin(read_only=True)
            value = work(connection)
            connection.end()
        except BaseException as error:
            self._recover()
            translated = translate(error)
            if translated is error:
                raise
            raise translated from driver_error(error)
        return value

    def _recover(self) -> None:
        try:
            self._connection.roll_back()
        except psycopg.Error:
            self.broken = True
        self.broken = self.broken or self._connection.lost

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class PostgresqlEngine:
    """The writing connection: groups, pipelines, reconnects."""

    backend = POSTGRESQL

    def __init__(self, conninfo: str, name: str) -> None:
        self._core = core_engine(conninfo)
        self._name = name
        self._connection: PostgresqlConnection | None = None
        self._backoff = 0.0
        self._retry_at = 0.0
        self._refusal = ""

    def open(self) -> PostgresqlConnection:
        """Return the writing connection, opened if need be and due. Raises `StoreError`."""
        if self._connection is not None:
            return self._connection
        if time.monotonic() < self._retry_at:
            raise StoreUnavailableError(self._refusal)
        try:
            self._connection = self._connect()
        except StoreError as error:
            self._backoff = min(max(FIRST_BACKOFF_SECONDS, 2 * self._backoff), LAST_BACKOFF_SECONDS)
            self._retry_at = time.monotonic() + self._backoff
            self._refusal = str(error)
            raise
        self._backoff = 0.0
        return self._connection

    def _connect(self) -> PostgresqlConnection:
        try:
            return PostgresqlConnection(self._core.connect())
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            raise translate(error) from driver_error(error)

    def commit(self, group: Sequence[Submission]) -> None:
        """Run and commit ``group``; see `Engine.commit`."""
        failure = self._attempt(group)
        if (
            failure is not None and failure.fate is _Fate.LOST
        ):  # often it only lay idle while the server restarted
            failure = self._attempt(_again(group))
        if failure is None:
            return
        if failure.fate is not _Fate.ROLLED_BACK:
            _fail(group, failure)
        elif len(group) > 1:
            middle = len(group) // 2
            again = _again(group)
            self.commit(again[:middle])
            self.commit(again[middle:])
        else:
            self._retry(group, failure)

    def _retry(self, group: Sequence[Submission], failure: _Failure) -> None:
        """Try one work again while it loses races."""
        for _ in range(TRIES - 1):
            if failure.fate is not _Fate.ROLLED_BACK or not worth_another_try(failure.error):
                break
            next_failure = self._attempt(_again(group))
            if next_failure is None:
                return
            failure = next_failure
        _fail(group, failure)

    def _attempt(self, group: Sequence[Submission]) -> _Failure | None:
        """Run ``group`` in one transaction; None if it is committed: each work has its value or error."""
        try:
            connection = self.open()
        except StoreError as error:
            return _Failure(error, _Fate.UNREACHABLE)
        fate_if_lost = _Fate.LOST
        try:
            connection.begin()
            for submission in group:
                _run(connection, submission)
            for topic in dict.fromkeys(topic for submission in group for topic in submission.topics):
                connection.notify(f"{self._name} {topic}")
            connection.look_alive()
            fate_if_lost = _Fate.UNKNOWN
            connection.commit()
        except BaseException as error:  # noqa: BLE001 - whatever a work raised is its caller's
            connection.submission = None
            return _Failure(error, self._clean_up(connection, error, fate_if_lost))
        return None

    def _clean_up(self, connection: PostgresqlConnection, error: BaseException, fate_if_lost: _Fate) -> _Fate:
        try:
            if not connection.lost:
                connection.roll_back()
                if not worth_a_new_connection(error):
                    return _Fate.ROLLED_BACK
                fate_if_lost = _Fate.LOST
        except psycopg.Error:
            pass
        self.drop()
        return fate_if_lost

    def drop(self) -> None:
        """Close the connection; the next work opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def trouble(self) -> str | None:
        """No quota is ours to keep here: the server's disk and its administrator decide."""
        return None

    def tidy(self) -> None:
        """The server checkpoints by itself."""

    def rest(self) -> bool:
        """Reconnect if the connection was lost."""
        self.open()
        return True

    def open_reader(self) -> PostgresqlReader:
        """Open a connection that only reads."""
        return PostgresqlReader(self._connect())

    def close(self) -> None:
        """Close the connection."""
        self.drop()


def _run(connection: PostgresqlConnection, submission: Submission) -> None:
    """Run one work; if it fails before it changed anything, it fails alone, else it raises."""
    connection.submission = submission
    connection.wrote = False
    try:
        submission.value = submission.work(connection)
    except BaseException as error:
        if connection.wrote or isinstance(driver_error(error), psycopg.Error) or connection.lost:
            raise
        submission.fail(error)
    finally:
        connection.submission = None


def _again(group: Sequence[Submission]) -> Sequence[Submission]:
    for submission in reversed(group):  # as they were done one upon the other, so they are undone
        submission.again()
    return group


def _fail(group: Sequence[Submission], failure: _Failure) -> None:
    """Give every work an error of its own: tracebacks grow where exceptions are raised."""
    for submission in reversed(group):
        error = failure.error
        if failure.fate is _Fate.UNKNOWN:
            own: BaseException = OutcomeUnknownError(
                f"The connection to PostgreSQL was lost during a commit; the work is stored, or not ({error})"
            )
            own.__cause__ = error
        elif isinstance(error, StoreError):
            own = type(error)(*error.args)
        else:
            own = translate(error)
        submission.fail(own)
