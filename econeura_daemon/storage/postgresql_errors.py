"""PostgreSQL's errors, in the daemon's words (https://www.postgresql.org/docs/15/errcodes-appendix.html)."""

import psycopg
import sqlalchemy as sa

from econeura_daemon.core.errors import (
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)

_BY_STATE: dict[str, tuple[type[StoreError], str]] = {
    "53100": (StoreFullError, "no space is left on the server's disk: free some"),
    "53": (StoreUnavailableError, "the server has run out of connections or memory"),
    "57": (StoreUnavailableError, "the server is starting, stopping, or gave up on the statement"),
    "58": (StoreUnavailableError, "the server's disk reports an error: see the server's log"),
    "08": (StoreUnavailableError, "the connection was lost"),
    "25006": (StoreUnavailableError, "the server only reads (a standby?): point storage.url at the primary"),
    "25P03": (StoreUnavailableError, "a transaction was idle for too long"),
    "55P03": (StoreUnavailableError, "another daemon or program holds a lock for too long"),
    "28": (StoreUnavailableError, "the server refuses the user or the password: check storage.url"),
    "3D000": (StoreUnavailableError, "the server has no such database: create it, or check storage.url"),
    "42501": (StoreUnavailableError, "the user lacks a right: grant it, or make the user the schema's owner"),
    "40": (StoreUnavailableError, "works of several daemons stood in each other's way, again and again"),
    "XX001": (StoreCorruptError, "the server says that data is damaged: restore a backup"),
    "XX002": (StoreCorruptError, "the server says that an index is damaged: rebuild it (REINDEX)"),
}

_AGAIN = frozenset({"40001", "40P01"})
_NEW_CONNECTION = frozenset(
    {
        "0A000",  # a prepared statement no longer fits its tables
        "25006",  # this session only reads; after a failover the next one may write
    }
)


def driver_error(error: BaseException) -> BaseException:
    """Return the driver's own error where SQLAlchemy wrapped it."""
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        return error.orig
    return error


def translate(error: BaseException) -> BaseException:
    """Return the `StoreError` that ``error`` means, or ``error`` itself.

    A conflict with a constraint comes back as SQLAlchemy's ``IntegrityError``, whoever ran the statement.
    """
    cause = driver_error(error)
    if not isinstance(cause, psycopg.Error):
        return error
    state = cause.sqlstate or ""
    said = " ".join(str(cause).split())
    found = _BY_STATE.get(state) or _BY_STATE.get(state[:2])
    if found is None and isinstance(cause, psycopg.OperationalError) and not state:
        found = (
            StoreUnavailableError,
            "the server cannot be reached, refuses, or went away: see it and storage.url",
        )
    if found is None:
        if isinstance(cause, psycopg.IntegrityError) and error is cause:
            return sa.exc.IntegrityError(None, None, cause)
        return error
    kind, words = found
    translated = kind(f"PostgreSQL does not take this work: {words} (it says: {said})")
    translated.__cause__ = cause
    return translated


def worth_another_try(error: BaseException) -> bool:
    """Tell whether the transaction only lost a race: a deadlock or a serialization failure."""
    return getattr(driver_error(error), "sqlstate", None) in _AGAIN


def worth_a_new_connection(error: BaseException) -> bool:
    """Tell whether the session is to blame, so that another one may succeed."""
    return getattr(driver_error(error), "sqlstate", None) in _NEW_CONNECTION
