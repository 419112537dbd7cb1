"""Checking, backing up, restoring and migrating a store on PostgreSQL, by its own programs."""

import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from econeura_daemon.core.errors import StateDirectoryHeldError, StoreUnavailableError
from econeura_daemon.storage.dialect import POSTGRESQL, TABLES
from econeura_daemon.storage.migrations import NEWEST, schema_version
from econeura_daemon.storage.model import CheckReport
from econeura_daemon.storage.postgresql import PostgresqlEngine
from econeura_daemon.storage.postgresql_connection import IN_USE, connect
from econeura_daemon.storage.postgresql_errors import translate
from econeura_daemon.storage.postgresql_opening import executor, prepare_postgresql
from econeura_daemon.storage.tables import metadata

LET_GO = "1s"
"""How long a restore waits for a connection that is about to be gone."""


def check_server(conninfo: str) -> CheckReport:
    """Tell whether the schema is complete; damage is for the server's own tools (``pg_amcheck``)."""
    with closing(_connect(conninfo)) as driver:
        execute = executor(driver)
        version = schema_version(execute, POSTGRESQL)
        tables = {str(row[0]) for row in execute(TABLES[POSTGRESQL])}
    missing = sorted(set(metadata.tables) - tables) if version == NEWEST else []
    return CheckReport("PostgreSQL", version, NEWEST, tuple(f"table {name} is missing" for name in missing))


def migrate_server(conninfo: str) -> tuple[int, int]:
    """Bring the schema up to date; return its version before and after."""
    engine = PostgresqlEngine(conninfo, "migrate")
    try:
        return prepare_postgresql(engine)
    finally:
        engine.close()


def dump_server(conninfo: str, target: Path) -> None:
    """Write a consistent dump into ``target``; daemons go on meanwhile."""
    _run("pg_dump", conninfo, "--format=custom", f"--file={target}")


def restore_server(conninfo: str, source: Path) -> None:
    """Replace the store's tables by a dump's, in one transaction; refused while a daemon is connected."""
    if not source.exists():
        raise StoreUnavailableError(f"There is no file {source}")
    with closing(_connect(conninfo)) as driver:
        # A daemon that has just stopped is let go of by the server a moment later.
        driver.execute("SELECT set_config('lock_timeout', %s, false)", (LET_GO,))
        try:
            driver.execute("SELECT pg_advisory_lock(hashtext(%s))", (IN_USE,))
        except psycopg.errors.LockNotAvailable:
            raise StateDirectoryHeldError("A daemon is connected to the database: stop it first") from None
        _run(
            "pg_restore",
            conninfo,
            "--clean",
            "--if-exists",
            "--no-owner",
            "--single-transaction",
            str(source),
        )


def _connect(conninfo: str) -> psycopg.Connection[Any]:
    try:
        return connect(conninfo)
    except psycopg.Error as error:
        raise translate(error) from error


def _run(program: str, conninfo: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        raise StoreUnavailableError(
            f"{program} is not installed: install PostgreSQL's client programs (postgresql-client)"
        )
    parameters = conninfo_to_dict(conninfo)
    environment = dict(os.environ)
    password = parameters.pop("password", None)
    if password is not None:
        environment["PGPASSWORD"] = str(password)  # an argument could be read by every user of the machine
    done = subprocess.run(  # noqa: S603 - no shell, and the arguments are ours
        [found, f"--dbname={make_conninfo('', **parameters)}", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StoreUnavailableError(f"{program} failed: {' '.join(done.stderr.split())}")
