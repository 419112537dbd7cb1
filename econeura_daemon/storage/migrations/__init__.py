"""Migrations: numbered, forward only, one transaction each, run at start.

A migration is text that is never changed once it was released. What differs between the databases stands in
braces (see `dialect.WORDS`).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs

from econeura_daemon.core.errors import StoreTooNewError, StoreUnavailableError
from econeura_daemon.storage.dialect import BEGIN_ALONE, SQLITE, TABLES, WORDS
from econeura_daemon.storage.migrations import (
    m0001_events_and_webhooks,
    m0002_registry,
    m0003_cron,
    m0004_workers,
)

Execute = Callable[[str], Sequence[tuple[Any, ...]]]
"""Runs one statement outside any transaction of its own and returns its rows, if any."""


@attrs.frozen
class Migration:
    """One step of the schema."""

    version: int
    name: str
    statements: str
    """SQL, statements separated by ``;`` at the end of a line."""

    def texts(self, backend: str) -> list[str]:
        """Return the statements in the words of ``backend``."""
        text = self.statements.format(**WORDS[backend])
        return [statement.strip() for statement in text.split(";\n") if statement.strip()]


MIGRATIONS = (
    Migration(1, "events and webhooks", m0001_events_and_webhooks.STATEMENTS),
    Migration(2, "registry", m0002_registry.STATEMENTS),
    Migration(3, "cron", m0003_cron.STATEMENTS),
    Migration(4, "workers", m0004_workers.STATEMENTS),
)

NEWEST = MIGRATIONS[-1].version

_RECORD = (
    'CREATE TABLE schema_migrations ("version" INTEGER NOT NULL PRIMARY KEY, "name" TEXT NOT NULL,'
    ' "applied_at" BIGINT NOT NULL)'
)


def schema_version(execute: Execute, backend: str) -> int:
    """Return the version of the schema, 0 for an empty database.

    Raises `StoreTooNewError` for one that is newer than this code, and `StoreUnavailableError` for an SQLite
    file that belongs to another program (a PostgreSQL database may hold other tables beside ours).
    """
    tables = {row[0] for row in execute(TABLES[backend])}
    if "schema_migrations" not in tables:
        if tables and backend == SQLITE:
            raise StoreUnavailableError(
                f"The database holds tables of another program ({', '.join(sorted(tables)[:3])}…): "
                "point storage.url at a file of its own"
            )
        return 0
    version = int(execute("SELECT COALESCE(MAX(version), 0) FROM schema_migrations")[0][0])
    if version > NEWEST:
        raise StoreTooNewError(
            f"The database has schema {version}, written by a newer econeura-daemon; this one knows schemas "
            f"up to {NEWEST}: install the newer version again, or restore a backup from before the upgrade"
        )
    return version


def migrate(execute: Execute, backend: str) -> tuple[int, int]:
    """Bring the schema up to date and return its version before and after.

    Safe to call from several daemons at once. A step that fails leaves the schema at the step before.
    """
    before = None
    while True:
        for statement in BEGIN_ALONE[backend]:
            execute(statement)
        try:
            version = schema_version(execute, backend)
            before = version if before is None else before
            step = next((step for step in MIGRATIONS if step.version == version + 1), None)
            if step is not None:
                _apply(execute, backend, step)
            execute("COMMIT")
        except BaseException:
            _roll_back(execute)
            raise
        if step is None:
            return before, version


def _apply(execute: Execute, backend: str, step: Migration) -> None:
    if step.version == 1:
        execute(_RECORD)
    for statement in step.texts(backend):
        execute(statement)
    now = WORDS[backend]["now_ms"]
    execute(f"INSERT INTO schema_migrations VALUES ({step.version}, '{step.name}', {now})")  # noqa: S608 - constants


def _roll_back(execute: Execute) -> None:
    with suppress(Exception):  # the first error is the one to tell
        execute("ROLLBACK")
