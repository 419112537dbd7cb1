"""Webhooks of the worker to its daemon: one subscription of its own event log, as the configuration says it."""

from typing import Any

from econeura_daemon.webhooks import CreateSubscription, Subscriptions
from econeura_daemon.webhooks.commands import RetryPolicyBody

DESCRIPTION = "the daemon's inbound webhook"
PATH = "/v1/workers/webhooks/workers"
EVENTS = ("workers.*",)

_S, _MIN = 1000, 60_000
SCHEDULE = (
    *(1 * _S, 2 * _S, 4 * _S, 8 * _S, 16 * _S, 30 * _S),
    *(24 * (1 * _MIN,)),
    *(30 * (5 * _MIN,)),
    *(40 * (30 * _MIN,)),
)
"""Milliseconds before each retry, as many as may be. A daemon is usually back within a minute, and learns within
another one what happened; one that was away for a day still learns all."""


async def subscribe(subscriptions: Subscriptions, daemon_url: str) -> str:
    """Let the daemon at ``daemon_url`` be owed what happens here; return the subscription's id.

    What is owed already is kept when the daemon moves to another address. Signed is with ``webhooks.secret``, as it
    is at the time.
    """
    wanted: dict[str, Any] = {
        "url": daemon_url.rstrip("/") + PATH,
        "active": True,
        "retryPolicy": {"schedule": list(SCHEDULE)},
    }
    before: str | None = None
    while page := await subscriptions.page(before, 100):
        for one in page:
            if one.description == DESCRIPTION:
                await subscriptions.patch(one.id, wanted)
                return one.id
        before = page[-1].id
    made = await subscriptions.create(
        CreateSubscription(
            url=wanted["url"],
            events=EVENTS,
            description=DESCRIPTION,
            retry_policy=RetryPolicyBody(schedule=SCHEDULE),
        )
    )
    return made.id
