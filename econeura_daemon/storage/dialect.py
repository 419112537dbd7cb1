"""The only file that names a database's own SQL; what is here compiles on SQLite and PostgreSQL alike."""

from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert  # noqa: TID251 - this is storage.dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

SQLITE = "sqlite"
POSTGRESQL = "postgresql"

S = TypeVar("S", bound="sa.Select[Any]")


@cache
def compiler_dialect(backend: str) -> sa.Dialect:
    """Return the dialect that compiles to the driver's text with parameters by position."""
    if backend == SQLITE:
        from sqlalchemy.dialects.sqlite import pysqlite  # noqa: TID251 - this is storage.dialect

        return pysqlite.dialect(paramstyle="qmark")
    from sqlalchemy.dialects.postgresql import psycopg  # noqa: TID251 - this is storage.dialect

    dialect: sa.Dialect = psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
    return dialect


DRIVER_SUFFIX = {SQLITE: "", POSTGRESQL: " /* hot */"}
"""What tells a hot statement's text from the same statement's by SQLAlchemy, which must not count as a first time (see
`PostgresqlConnection`)."""


def insert(table: sa.Table) -> Insert:
    """Return an ``INSERT`` that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``.

    SQLite took the clause over from PostgreSQL, and its compiler takes PostgreSQL's construct.
    """
    return Insert(table)


def skip_locked(statement: S) -> S:
    """Lock the selected rows and pass over those that others hold; SQLite's one writer has no others."""
    return statement.with_for_update(skip_locked=True)


WORDS = {
    SQLITE: {
        "bytes": "BLOB",
        "cursor": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
        "keyed": "WITHOUT ROWID",
        # 2440587.5 is the Julian day of the epoch; unixepoch('subsec') needs SQLite 3.42.
        "now_ms": "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
    },
    POSTGRESQL: {
        "bytes": "BYTEA",
        "cursor": "BIGSERIAL NOT NULL PRIMARY KEY",
        "keyed": "",
        "now_ms": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
    },
}
"""What stands for ``{bytes}``, ``{cursor}``, ``{keyed}`` (a table that is its primary key's index) and
``{now_ms}`` in a migration."""


class now_ms(FunctionElement[int]):  # noqa: N801 - it is written like a function
    """The present instant in milliseconds since the epoch, by the database's own clock."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(now_ms, SQLITE)
def _now_ms_sqlite(_element: now_ms, _compiler: SQLCompiler, **_options: Any) -> str:
    return WORDS[SQLITE]["now_ms"]


@compiles(now_ms, POSTGRESQL)
def _now_ms_postgresql(_element: now_ms, _compiler: SQLCompiler, **_options: Any) -> str:
    return WORDS[POSTGRESQL]["now_ms"]


class last_event_cursor(FunctionElement[int]):  # noqa: N801 - it is written like a function
    """The newest cursor of the event log, NULL if there is none.

    SQLite's counter is part of the transaction, so it is the newest that was ever committed. PostgreSQL's
    sequence is not: it counts what is not committed yet, so there it is the newest that is kept.
    """

    type = sa.BigInteger()
    inherit_cache = True


@compiles(last_event_cursor, SQLITE)
def _last_event_cursor_sqlite(_element: last_event_cursor, _compiler: SQLCompiler, **_options: Any) -> str:
    return "(SELECT seq FROM sqlite_sequence WHERE name = 'events')"


@compiles(last_event_cursor, POSTGRESQL)
def _last_event_cursor_postgresql(
    _element: last_event_cursor, _compiler: SQLCompiler, **_options: Any
) -> str:
    return "(SELECT max(cursor) FROM events)"


TABLES = {
    SQLITE: "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'",
    POSTGRESQL: "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()",
}
"""The names of the tables that exist."""

BEGIN_ALONE = {
    SQLITE: ("BEGIN IMMEDIATE",),
    POSTGRESQL: ("BEGIN", "SELECT pg_advisory_xact_lock(hashtext('econeura-daemon schema'))"),
}
"""Begin a transaction that no other daemon's migration runs beside."""
