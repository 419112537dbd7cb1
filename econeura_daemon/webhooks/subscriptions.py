"""Subscriptions as users handle them: create, read, change, pause, delete."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

import attrs
import trio

from econeura_daemon.core.clock import Clock, format_ms, to_ms
from econeura_daemon.core.errors import NotFoundError, StoreError
from econeura_daemon.core.ids import new_id
from econeura_daemon.core.structuring import structure_json
from econeura_daemon.storage import Connection, Store
from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.commands import CreateSubscription, SubscriptionBody
from econeura_daemon.webhooks.model import RetryPolicy, Secret, Subscription
from econeura_daemon.webhooks.policies import Policies
from econeura_daemon.webhooks.signing import new_secret
from econeura_daemon.webhooks.store import claims, recovery
from econeura_daemon.webhooks.store import subscriptions as sql
from econeura_daemon.wire import EgressGuard, check_url

log = logging.getLogger(__name__)

Also = Callable[[Connection, Subscription], None]
Resumed = Callable[[Subscription, int], None]

CANCEL_BATCH = 1000
"""Deliveries canceled in one transaction: deleting a subscription with a backlog stops nobody's writes."""
FINISH_EVERY = 60.0
"""Seconds between looks for deletions that were cut off."""
PAUSED = "paused by a user"
_SENSITIVE = ("auth", "cookie", "key", "secret", "signature", "token")


class Subscriptions:
    """Who is told of what. What a method returned is committed."""

    def __init__(
        self,
        *,
        store: Store,
        policies: Policies,
        claimant: Claimant,
        clock: Clock,
        rng: Random,
        resumed: Resumed = lambda _subscription, _due_at: None,
    ) -> None:
        """``resumed`` is called on the event loop when something waits for a subscription that is active again."""
        self._store = store
        self._policies = policies
        self._claimant = claimant
        self._clock = clock
        self._rng = rng
        self._resumed = resumed

    async def create(self, command: CreateSubscription, also: Also | None = None) -> Subscription:
        """Create a subscription; ``also`` runs in the same transaction.

        Without a secret the daemon's own (``webhooks.secret``) signs, whichever that is at the time; if it has
        none, a new one is made.
        """
        instant = self._clock.now()
        now = to_ms(instant)
        secrets: tuple[Secret, ...] = ()
        if command.secret is not None or self._policies.settings.secret is None:
            secrets = (Secret(command.secret or new_secret(self._rng.randbytes)),)
        subscription = Subscription(
            id=new_id("sub", instant, self._rng),
            secrets=secrets,
            created_at=now,
            updated_at=now,
            disabled_reason=None if command.active else PAUSED,
            **_body_fields(command),
        )

        def work(connection: Connection) -> None:
            sql.insert(connection, subscription, self._token())
            if also is not None:
                also(connection, subscription)

        await self._store.transact(work)
        return subscription

    def secret_of(self, subscription: Subscription) -> str | None:
        """Return the secret that signs now; None: there is none, and nothing can be delivered."""
        return subscription.secrets[0].text if subscription.secrets else self._policies.settings.secret

    def warnings(self, subscription: Subscription) -> list[str]:
        """Return what will keep deliveries from arriving, as far as it can be seen now."""
        guard = EgressGuard(self._policies.settings.allowed_networks)
        return [flaw.message for flaw in check_url(subscription.url, guard)]

    async def get(self, subscription_id: str) -> Subscription:
        """Return the subscription. Raises `NotFoundError`."""
        return _found(
            await self._store.read(partial(sql.get, subscription_id=subscription_id)), subscription_id
        )

    async def page(self, before: str | None, limit: int) -> list[Subscription]:
        """Return subscriptions, newest first, from below the id ``before``."""
        return await self._store.read(partial(sql.page, before=before, limit=limit))

    async def patch(self, subscription_id: str, changes: Mapping[str, Any]) -> Subscription:
        """Lay ``changes`` (JSON members) over the subscription; null takes a member back to its default.

        Raises `NotFoundError`, and `InvalidInputError` if the result does not fit.
        """
        now = to_ms(self._clock.now())

        def work(connection: Connection) -> Subscription:
            before = _found(sql.get_for_update(connection, subscription_id), subscription_id)
            body = structure_json({**_body_json(before), **changes}, SubscriptionBody)
            reason = before.disabled_reason if body.active == before.active else PAUSED
            after = attrs.evolve(
                before,
                updated_at=now,
                disabled_reason=None if body.active else reason,
                **_body_fields(body),
            )
            sql.replace(connection, after, self._token())
            due_at = claims.next_due(connection, subscription_id) if after.active else None
            if due_at is not None:
                connection.after_commit(partial(self._resumed, after, due_at))
            return after

        return await self._store.transact(work)

    async def delete(self, subscription_id: str) -> None:
        """Delete the subscription and cancel what it is still owed; deliveries and attempts stay readable.

        Raises `NotFoundError`.
        """
        now = to_ms(self._clock.now())

        def work(connection: Connection) -> int:
            before = _found(sql.get_for_update(connection, subscription_id), subscription_id)
            # What stays is the address of its deliveries, not the key.
            after = attrs.evolve(before, active=False, deleted=True, updated_at=now, secrets=())
            sql.replace(connection, after, self._token())
            return recovery.cancel_some(connection, subscription_id, CANCEL_BATCH, self._claimant)

        if await self._store.transact(work) >= CANCEL_BATCH:
            await self._cancel_rest(subscription_id)

    async def finish_deletions(self) -> None:
        """Cancel what is still owed to deleted subscriptions.

        A deletion may have been cut off, and another daemon may have published while it was under way.
        """
        for subscription_id in await self._store.read(recovery.deleted_with_rest):
            await self._cancel_rest(subscription_id)

    async def finish_deletions_loop(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Finish deletions for ever."""
        task_status.started()
        while True:
            try:
                await self.finish_deletions()
            except StoreError as error:
                log.warning("could not finish deletions: %s", error)
            await trio.sleep(FINISH_EVERY)

    async def _cancel_rest(self, subscription_id: str) -> None:
        cancel = partial(
            recovery.cancel_some, subscription_id=subscription_id, most=CANCEL_BATCH, claimant=self._claimant
        )
        while await self._store.transact(cancel):
            pass

    def _token(self) -> str:
        """Return a new generation: made inside the work, so that a work that runs again makes another one."""
        return new_id("gen", self._clock.now(), self._rng)


def subscription_json(subscription: Subscription, *, reveal: str | None = None) -> dict[str, Any]:
    """Return the subscription as the API shows it, with the secret ``reveal``; without one it is masked.

    ``lastDelivery`` is when an attempt to it last ended, to the second while all goes well.
    """
    body = _body_json(subscription)
    body["headers"] = {
        name: "***" if any(word in name.lower() for word in _SENSITIVE) else text
        for name, text in subscription.headers.items()
    }
    current = subscription.secrets[0].text if subscription.secrets else ""
    last = subscription.last_delivery_at
    return {
        "id": subscription.id,
        **body,
        "secret": reveal or masked(current),
        "disabledReason": subscription.disabled_reason,
        "failureCount": subscription.failure_count,
        "lastDelivery": None if last is None else format_ms(last),
        "createdAt": format_ms(subscription.created_at),
        "updatedAt": format_ms(subscription.updated_at),
    }


def masked(secret: str) -> str:
    """Return what may be shown of a secret: its kind, nothing of its substance."""
    return "whsec_***" if secret.startswith("whsec_") else "***"


def _found(subscription: Subscription | None, subscription_id: str) -> Subscription:
    if subscription is None:
        raise NotFoundError("subscription", subscription_id)
    return subscription


def _body_fields(body: SubscriptionBody) -> dict[str, Any]:
    return {
        "url": body.url,
        "patterns": tuple(dict.fromkeys(body.events)),
        "active": body.active,
        "description": body.description,
        "headers": body.headers or {},
        "retry_policy": None if body.retry_policy is None else body.retry_policy.policy(),
        "max_in_flight": body.max_in_flight,
    }


def _body_json(subscription: Subscription) -> dict[str, Any]:
    return {
        "url": subscription.url,
        "events": list(subscription.patterns),
        "active": subscription.active,
        "description": subscription.description,
        "headers": dict(subscription.headers),
        "retryPolicy": None if subscription.retry_policy is None else _policy_json(subscription.retry_policy),
        "maxInFlight": subscription.max_in_flight,
    }


def _policy_json(policy: RetryPolicy) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "maxRetries": policy.max_retries,
        "retryDelay": policy.retry_delay,
        "backoffMultiplier": policy.backoff_multiplier,
        "maxDelay": policy.max_delay,
    }
    if policy.schedule is not None:
        shown["schedule"] = list(policy.schedule)
    return shown
