"""What became of mails in a period, read a little at a time."""

from collections.abc import AsyncGenerator
from functools import partial

from econeura_daemon.core.ids import first_id
from econeura_daemon.storage import Store
from econeura_daemon.worker.tasks.periods import Period
from econeura_daemon.workers.model import Email
from econeura_daemon.workers.store import emails as sql

PAGE = 500
"""Results that are held at once."""


async def results_of(store: Store, period: Period) -> AsyncGenerator[list[Email]]:
    """Yield the results of mails that were recorded in the period, in order. Raises a `StoreError`."""
    # The least id of an instant is nobody's: to begin behind it leaves nothing out.
    after, until = first_id("eml", period.start), first_id("eml", period.end)
    while page := await store.read(partial(sql.between, after=after, until=until, limit=PAGE)):
        yield page
        after = page[-1].id
