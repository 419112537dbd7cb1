"""What is forgotten of deliveries, attempts and deleted subscriptions, and when."""

from functools import partial

from econeura_daemon.core.clock import from_ms
from econeura_daemon.core.ids import first_id
from econeura_daemon.storage import Store
from econeura_daemon.storage.sweeping import sweep
from econeura_daemon.webhooks.store import retention as sql


async def forget_attempts(store: Store, before: int) -> int:
    """Delete attempts that began before ``before`` (milliseconds); return how many were.

    A delivery goes on counting its attempts, and keeps what the last one came to.
    """
    look = partial(sql.old_attempts, deliveries_before=first_id("del", from_ms(before)), before=before)
    return await sweep(store, ("", 0), look, sql.forget_attempts)


async def forget_deliveries(store: Store, before: int) -> int:
    """Delete deliveries made before ``before`` (milliseconds) that have ended; return how many were.

    With them go their attempts, and of deleted subscriptions those of which nothing is left.
    """
    count = await sweep(
        store, "", partial(sql.old_deliveries, before=first_id("del", from_ms(before))), sql.forget_deliveries
    )
    await sweep(store, "", partial(sql.old_subscriptions, before=before), sql.forget_subscriptions)
    return count
