"""`open_store`: from settings to a running store."""

import os
import sqlite3  # noqa: TID251 - migrations run on the driver
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from econeura_daemon.core.errors import StoreError, StoreUnavailableError
from econeura_daemon.core.owners import give_to_owner_of
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage.dialect import SQLITE
from econeura_daemon.storage.file_lock import hold_file
from econeura_daemon.storage.location import SqliteLocation, locate
from econeura_daemon.storage.migrations import migrate
from econeura_daemon.storage.model import Store
from econeura_daemon.storage.sqlite import SqliteEngine
from econeura_daemon.storage.sqlite_errors import translate
from econeura_daemon.storage.store import EngineStore
from econeura_daemon.storage.topics import Topics

INGEST_PATIENCE_SECONDS = 1.0
"""How long `Store.ingest` waits for room in the queue before the caller is told to come back later."""


@asynccontextmanager
async def open_store(
    settings: StorageSettings, state_dir: Path, *, ingest_patience: float = INGEST_PATIENCE_SECONDS
) -> AsyncGenerator[Store]:
    """Open the store that ``settings`` name, migrate it, and run its writer for the length of the block.

    ``ingest_patience`` is in seconds. Leaving the block commits what was queued, at most 15 s long. Raises a
    `StoreError` or `StateDirectoryHeldError`.
    """
    location = locate(settings, state_dir)
    if isinstance(location, SqliteLocation):
        opened = _open_sqlite(settings, location.path, ingest_patience)
    else:
        from econeura_daemon.storage.postgresql_opening import open_postgresql

        opened = open_postgresql(settings, location.conninfo, ingest_patience)
    async with opened as store:
        yield store


@asynccontextmanager
async def _open_sqlite(settings: StorageSettings, path: Path, patience: float) -> AsyncGenerator[Store]:
    with hold_file(path):
        engine = SqliteEngine(path, synchronous=settings.synchronous, max_bytes=settings.max_bytes)
        await trio.to_thread.run_sync(prepare_sqlite, engine, path)
        store = EngineStore(
            engine, Topics(), queue=settings.queue, readers=settings.readers, patience=patience
        )
        async with store.running():
            yield store


def prepare_sqlite(engine: SqliteEngine, path: Path | None) -> tuple[int, int]:
    """Create what is missing, bring the schema up to date, return its version before and after. Blocks."""
    if path is not None:
        create_file(path)
    driver = engine.open().driver

    def execute(statement: str) -> Sequence[tuple[Any, ...]]:
        try:
            return driver.execute(statement).fetchall()
        except sqlite3.Error as error:
            raise translate(error, str(path)) from error

    try:
        return migrate(execute, SQLITE)
    except BaseException as error:
        engine.close()
        if isinstance(error, StoreError) or not isinstance(error, sqlite3.Error):
            raise
        raise StoreUnavailableError(
            f"The schema of {path} could not be brought up to date: {error}"
        ) from error


def create_file(path: Path) -> None:
    """Create an empty database that only its folder's owner can read: it holds secrets.

    SQLite gives the files beside it the same mode, and for root the same owner.
    """
    with suppress(FileExistsError):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                give_to_owner_of(path.parent, descriptor)
            finally:
                os.close(descriptor)
        except FileExistsError:
            raise
        except OSError as error:
            raise StoreUnavailableError(
                f"The database {path} cannot be created ({error}): see its folder and the disk"
            ) from error
