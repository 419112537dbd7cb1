"""The present instant, as a transaction has it."""

import sqlalchemy as sa

from econeura_daemon.storage import Connection, Hot
from econeura_daemon.storage.dialect import now_ms
from econeura_daemon.storage.model import Claimant

_NOW = Hot(sa.select(now_ms()))


def present(connection: Connection, claimant: Claimant, now: int) -> int:
    """Return the instant that counts, in milliseconds since the epoch.

    Where daemons share a store it is the database's: their own clocks (``now``) may differ.
    """
    if claimant.lease_ms is None:
        return now
    instant: int = connection.rows(_NOW)[0][0]
    return instant
