"""Checking, backing up, restoring and migrating a store: plain functions that block, for the command line.

A backup can be taken while a daemon writes: it reads through a connection that neither writes nor
checkpoints.
"""

import errno
import os
import sqlite3  # noqa: TID251 - the backup API is the driver's
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from econeura_daemon.core.errors import (
    ConflictError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage.dialect import SQLITE
from econeura_daemon.storage.file_lock import hold_file
from econeura_daemon.storage.location import SqliteLocation, locate
from econeura_daemon.storage.migrations import NEWEST, schema_version
from econeura_daemon.storage.model import CheckReport
from econeura_daemon.storage.opening import create_file, prepare_sqlite
from econeura_daemon.storage.sqlite import SqliteEngine
from econeura_daemon.storage.sqlite_connection import connect
from econeura_daemon.storage.sqlite_errors import translate


def check(settings: StorageSettings, state_dir: Path) -> CheckReport:
    """Check the whole database, and whether its schema is one that this program knows.

    Raises a `StoreError` for a database that cannot be read at all, `StoreTooNewError` for one that is too
    new.
    """
    location = locate(settings, state_dir)
    if isinstance(location, SqliteLocation):
        return check_file(location.path)
    from econeura_daemon.storage.postgresql_backup import check_server

    return check_server(location.conninfo)


def backup(settings: StorageSettings, state_dir: Path, target: Path) -> int:
    """Write a consistent copy of the store to ``target`` and return its size in bytes.

    The copy is checked and on the disk before it gets its name. Raises `ConflictError` if ``target`` exists,
    and a `StoreError`.
    """
    location = locate(settings, state_dir)
    with _new_file(target) as partial:
        if isinstance(location, SqliteLocation):
            _copy(location.path, partial)
        else:
            from econeura_daemon.storage.postgresql_backup import dump_server

            dump_server(location.conninfo, partial)
    return target.stat().st_size


def restore(settings: StorageSettings, state_dir: Path, source: Path) -> Path | None:
    """Put the backup ``source`` in the store's place; return where the replaced file is kept, if any.

    The backup is checked before anything is touched. Raises `StateDirectoryHeldError` while a daemon runs on
    the store, and a `StoreError`.
    """
    location = locate(settings, state_dir)
    if isinstance(location, SqliteLocation):
        return _restore_file(location.path, source)
    from econeura_daemon.storage.postgresql_backup import restore_server

    restore_server(location.conninfo, source)
    return None


def migrate(settings: StorageSettings, state_dir: Path) -> tuple[int, int]:
    """Bring the schema up to date, as a start of the daemon would; return its version before and after.

    Raises `StateDirectoryHeldError` while a daemon runs on an SQLite store, and a `StoreError`.
    """
    location = locate(settings, state_dir)
    if not isinstance(location, SqliteLocation):
        from econeura_daemon.storage.postgresql_backup import migrate_server

        return migrate_server(location.conninfo)
    with hold_file(location.path):
        engine = SqliteEngine(location.path, synchronous=settings.synchronous)
        try:
            return prepare_sqlite(engine, location.path)
        finally:
            engine.close()


def check_file(path: Path) -> CheckReport:
    """Check an SQLite store or a backup of one."""
    with _reading(path) as driver:
        found = [str(row[0]) for row in driver.execute("PRAGMA integrity_check")]

        def execute(statement: str) -> Sequence[tuple[Any, ...]]:
            return driver.execute(statement).fetchall()

        version = schema_version(execute, SQLITE)
    return CheckReport(str(path), version, NEWEST, tuple(flaw for flaw in found if flaw != "ok"))


@contextmanager
def _reading(path: Path) -> Generator[sqlite3.Connection]:
    if not path.exists():
        raise StoreUnavailableError(f"There is no file {path}")
    try:
        with closing(connect(str(path), read_only=True)) as driver:
            yield driver
    except sqlite3.Error as error:
        raise translate(error, str(path)) from error


def _copy(source: Path, target: Path) -> None:
    """Copy a store into the empty file ``target`` in one reading transaction, and check the copy."""
    try:
        with _reading(source) as driver, closing(connect(str(target))) as copy:
            driver.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, with nothing beside it
    except StoreError:
        raise
    except sqlite3.Error as error:
        raise translate(error, str(target)) from error
    _refuse_flaws(check_file(target), source)


def _refuse_flaws(report: CheckReport, source: Path) -> None:
    if report.flaws:
        raise StoreCorruptError(f"{source} is damaged ({report.flaws[0]}); nothing was written")


def _restore_file(path: Path, source: Path) -> Path | None:
    report = check_file(source)
    _refuse_flaws(report, source)
    if report.version == 0:
        raise StoreUnavailableError(f"{source} is no backup of a store: it has no schema")
    with hold_file(path):
        partial = path.with_name(f".{path.name}.restoring")
        partial.unlink(missing_ok=True)
        with _saying(partial):
            create_file(partial)
            _copy(source, partial)
            _sync(partial)
            kept = _set_aside(path)
            partial.replace(path)
            _sync(path.parent)
        return kept


def _set_aside(path: Path) -> Path | None:
    """Give the present database and its WAL second names, as they are; the WAL must not meet what comes now."""
    if not path.exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.name}.replaced-{number}")).exists():
        number += 1
    kept.hardlink_to(path)
    wal = path.with_name(path.name + "-wal")
    if wal.exists():
        kept.with_name(kept.name + "-wal").hardlink_to(wal)
        wal.unlink()
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return kept


@contextmanager
def _new_file(target: Path) -> Generator[Path]:
    """Yield a file to write; if that succeeds it gets the name ``target``, which nobody had before."""
    if target.exists():
        raise ConflictError(f"{target} exists already; a backup overwrites nothing")
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    with _saying(target):
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            yield partial
            _sync(partial)
            target.hardlink_to(partial)  # unlike a rename, it never overwrites
        except FileExistsError:
            raise ConflictError(f"{target} exists already; a backup overwrites nothing") from None
        finally:
            partial.unlink(missing_ok=True)
        _sync(target.parent)


@contextmanager
def _saying(path: Path) -> Generator[None]:
    """Tell an operating system's error in the store's words."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StoreFullError(f"No space is left for {path}: free some") from error
        raise StoreUnavailableError(f"{path} cannot be written: {error}") from error


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
