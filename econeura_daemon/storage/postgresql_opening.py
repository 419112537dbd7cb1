"""Opening a store on PostgreSQL; imports the driver, which is an optional dependency."""

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import trio

from econeura_daemon.core.errors import StoreError, StoreUnavailableError
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage.dialect import POSTGRESQL
from econeura_daemon.storage.migrations import Execute, migrate
from econeura_daemon.storage.model import Store
from econeura_daemon.storage.postgresql import PostgresqlEngine
from econeura_daemon.storage.postgresql_errors import translate
from econeura_daemon.storage.postgresql_listener import Listener
from econeura_daemon.storage.store import EngineStore
from econeura_daemon.storage.topics import Topics


@asynccontextmanager
async def open_postgresql(settings: StorageSettings, conninfo: str, patience: float) -> AsyncGenerator[Store]:
    """Open the store for the length of the block; see `open_store`."""
    name = secrets.token_hex(8)
    engine = PostgresqlEngine(conninfo, name)
    await trio.to_thread.run_sync(prepare_postgresql, engine)
    topics = Topics()
    store = EngineStore(engine, topics, queue=settings.queue, readers=settings.readers, patience=patience)
    listener = Listener(conninfo, name, topics.wake, topics.wake_all)
    async with store.running():
        try:
            await trio.to_thread.run_sync(listener.open)
            yield store
        finally:
            with trio.CancelScope(shield=True):  # bounded: a stopped thread only closes a socket
                await trio.to_thread.run_sync(listener.stop)


def prepare_postgresql(engine: PostgresqlEngine) -> tuple[int, int]:
    """Connect, bring the schema up to date, return its version before and after. Blocks."""
    try:
        return migrate(executor(engine.open().driver), POSTGRESQL)
    except BaseException as error:
        engine.close()
        if isinstance(error, StoreError) or not isinstance(error, psycopg.Error):
            raise
        raise StoreUnavailableError(f"The schema could not be brought up to date: {error}") from error


def executor(driver: psycopg.Connection[Any]) -> Execute:
    """Return the function that runs a migration's statements."""

    def execute(statement: str) -> Sequence[tuple[Any, ...]]:
        try:
            cursor = driver.execute(statement)
            return cursor.fetchall() if cursor.description else ()
        except psycopg.Error as error:
            raise translate(error) from error

    return execute
