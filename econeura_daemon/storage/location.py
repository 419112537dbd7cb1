"""Where the store is: a file, or a server."""

from pathlib import Path

import attrs

from econeura_daemon.core.settings import StorageSettings

DEFAULT_FILE = "econeura.db"


@attrs.frozen
class SqliteLocation:
    """An SQLite file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@attrs.frozen
class PostgresqlLocation:
    """A PostgreSQL database."""

    conninfo: str = attrs.field(repr=False)
    """As libpq takes it; may hold a password."""


def locate(settings: StorageSettings, state_dir: Path) -> SqliteLocation | PostgresqlLocation:
    """Read ``storage.url``; the settings have seen to it that it is one of these.

    ``sqlite:///PATH`` is relative to the state directory and ``sqlite:////PATH`` absolute, as in SQLAlchemy.
    Everything behind ``postgresql://`` is libpq's (https://www.postgresql.org/docs/15/libpq-connect.html).
    """
    url = settings.url
    if not url:
        return SqliteLocation(state_dir / DEFAULT_FILE)
    if url.startswith("sqlite:///"):
        return SqliteLocation(state_dir / url.removeprefix("sqlite:///"))
    return PostgresqlLocation(url.replace("postgresql+psycopg://", "postgresql://", 1))
