"""Facts about the store itself, the same for every daemon that shares it."""

import sqlalchemy as sa

from econeura_daemon.storage.connection import Connection
from econeura_daemon.storage.dialect import insert
from econeura_daemon.storage.tables import meta


def fact(connection: Connection, key: str) -> str | None:
    """Return what stands under ``key``, None if nothing does."""
    value: str | None = connection.execute(sa.select(meta.c.value).where(meta.c.key == key)).scalar()
    return value


def settle_fact(connection: Connection, key: str, value: str) -> str:
    """Write ``value`` under ``key`` unless something stands there already; return what stands."""
    connection.lock(f"meta {key}")
    standing = fact(connection, key)
    if standing is not None:
        return standing
    connection.execute(sa.insert(meta), {"key": key, "value": value})
    return value


def write_fact(connection: Connection, key: str, value: str) -> None:
    """Write ``value`` under ``key`` in place of what stands there."""
    upsert = insert(meta).values(key=key, value=value)
    connection.execute(
        upsert.on_conflict_do_update(index_elements=["key"], set_={"value": upsert.excluded.value})
    )
