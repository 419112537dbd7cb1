"""The task ``cleanup`` of cron, and the program's own job for it: what is old is forgotten, a little at a time."""

from functools import partial

from econeura_daemon.api.idempotency import LIFETIME_MS
from econeura_daemon.core.clock import Clock, from_ms, to_ms
from econeura_daemon.core.ids import first_id
from econeura_daemon.core.jobs import ActionBody, ActionKind, Task
from econeura_daemon.core.settings import CLEANUP_ID, HOUR, CronJobSettings, CronSettings, Settings
from econeura_daemon.cron import Cron
from econeura_daemon.events import EventLog
from econeura_daemon.storage import Store
from econeura_daemon.storage.idempotency import forget_old as forget_answers
from econeura_daemon.storage.sweeping import BATCH, sweep_oldest
from econeura_daemon.webhooks import retention
from econeura_daemon.workers.store import bulk_jobs, emails


def own_jobs(settings: CronSettings) -> list[CronJobSettings]:
    """Return the job that does it, unless it is switched off."""
    if not settings.cleanup:
        return []
    action = ActionBody(kind=ActionKind.MAINTENANCE, task=Task.CLEANUP)
    return [
        CronJobSettings(
            id=CLEANUP_ID,
            name="Forget what is old",
            schedule=settings.cleanup,
            action=action,
            timeout_ms=HOUR,
        )
    ]


async def forget_old(settings: Settings, store: Store, events: EventLog, cron: Cron, clock: Clock) -> str:
    """Forget what is older than the settings say; return what it was. Raises a `StoreError`."""
    now, kept = to_ms(clock.now()), settings.retention
    counts = {
        "runs of jobs": await cron.upkeep.forget(settings.cron.history_ms),
        "attempts": await retention.forget_attempts(store, now - kept.attempts_ms),
        # Deliveries before their events, which are needed as long as they are.
        "deliveries": await retention.forget_deliveries(store, now - kept.events_ms),
        "events": await events.forget(now - kept.events_ms, now),
        # Bulk jobs, one at a time with its up to 10,000 items, before the e-mails that are their results.
        "bulk jobs": await sweep_oldest(
            store,
            partial(bulk_jobs.forget, before=first_id("blk", from_ms(now - kept.emails_ms)), most=1),
        ),
        "e-mails": await sweep_oldest(
            store,
            partial(emails.forget, before=first_id("eml", from_ms(now - kept.emails_ms)), most=BATCH),
        ),
        "answers to idempotency keys": await sweep_oldest(
            store, partial(forget_answers, since=now - LIFETIME_MS, limit=BATCH)
        ),
    }
    return "forgot " + ", ".join(f"{count} {what}" for what, count in counts.items())
