"""Small works for the store's tests."""

import sqlalchemy as sa

from econeura_daemon.storage import Hot
from econeura_daemon.storage.tables import meta

PUT = Hot(sa.insert(meta), "key", "value")
COUNT = Hot(sa.select(sa.func.count()).select_from(meta).where(meta.c.key == sa.bindparam("name")), "name")


def put(name, value="v"):
    """Insert one row, hot; it fails on a name that is there."""

    def work(connection):
        connection.run(PUT, [(name, value)])
        return name

    return work


def put_core(name, value="v"):
    """Insert one row by SQLAlchemy Core."""

    def work(connection):
        connection.execute(sa.insert(meta).values(key=name, value=value))
        return name

    return work


def keys(connection):
    """Read all names but the store's own."""
    statement = sa.select(meta.c.key).where(~meta.c.key.startswith("storage.")).order_by(meta.c.key)
    return list(connection.execute(statement).scalars())
