"""SQLite's errors, in the daemon's words (result codes: https://sqlite.org/rescode.html)."""

import sqlite3  # noqa: TID251 - its errors are translated here

from sqlalchemy.exc import DBAPIError, IntegrityError

from econeura_daemon.core.errors import (
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)

_LOST = frozenset({"SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CANTOPEN", "SQLITE_READONLY"})

_WORDS: dict[str, tuple[type[StoreError], str]] = {
    "SQLITE_FULL": (StoreFullError, "no space is left on its disk: free some"),
    "SQLITE_BUSY": (StoreUnavailableError, "another program holds its lock: end that program's transaction"),
    "SQLITE_LOCKED": (
        StoreUnavailableError,
        "another program holds its lock: end that program's transaction",
    ),
    "SQLITE_READONLY": (
        StoreUnavailableError,
        "it cannot be written: check the owner and mode of the file and its folder, and the mount",
    ),
    "SQLITE_CANTOPEN": (
        StoreUnavailableError,
        "it or its -wal and -shm files cannot be opened: check the owner and mode of the file and its folder",
    ),
    "SQLITE_PERM": (
        StoreUnavailableError,
        "access is denied: check the owner and mode of the file and its folder",
    ),
    "SQLITE_IOERR": (
        StoreUnavailableError,
        "the disk reports an error, or a quota or file size limit is reached: see the kernel's log",
    ),
    "SQLITE_PROTOCOL": (StoreUnavailableError, "its lock could not be had: is it on a network file system?"),
    "SQLITE_NOMEM": (StoreUnavailableError, "memory is exhausted"),
    "SQLITE_INTERRUPT": (StoreUnavailableError, "it was interrupted"),
    "SQLITE_CORRUPT": (
        StoreCorruptError,
        "it is damaged: stop the daemon and restore a backup (econeura-daemon db restore)",
    ),
    "SQLITE_NOTADB": (
        StoreCorruptError,
        "it is no SQLite database: see storage.url, or restore a backup (econeura-daemon db restore)",
    ),
}


def primary_code(error: BaseException) -> str:
    """Return the name of SQLite's primary result code, such as ``SQLITE_FULL``; empty if there is none."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])


def driver_error(error: BaseException) -> BaseException:
    """Return the driver's own error where SQLAlchemy wrapped it."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def translate(error: BaseException, place: str) -> BaseException:
    """Return the `StoreError` that ``error`` means for the database ``place``, or ``error`` itself.

    A conflict with a constraint comes back as SQLAlchemy's ``IntegrityError``, whoever ran the statement.
    """
    cause = driver_error(error)
    if not isinstance(cause, sqlite3.Error):
        return error
    kind, words = _WORDS.get(primary_code(cause), (None, ""))
    if kind is None:
        if isinstance(cause, sqlite3.IntegrityError) and error is cause:
            return IntegrityError(None, None, cause)
        return error
    translated = kind(f"The database {place} does not take this work: {words} (SQLite says: {cause})")
    translated.__cause__ = cause
    return translated


def doubts_connection(error: BaseException) -> bool:
    """Tell whether a connection that raised ``error`` should be opened anew before it is used again."""
    return primary_code(driver_error(error)) in _LOST
