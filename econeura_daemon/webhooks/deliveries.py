"""Deliveries as users look at them."""

from functools import partial

from econeura_daemon.core.errors import NotFoundError
from econeura_daemon.storage import Store
from econeura_daemon.webhooks.model import Attempt, Delivery, DeliveryStatus
from econeura_daemon.webhooks.store import queries


class Deliveries:
    """Reads deliveries and their attempts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, delivery_id: str) -> tuple[Delivery, list[Attempt]]:
        """Return the delivery and its attempts, oldest first. Raises `NotFoundError`."""
        found = await self._store.read(partial(queries.get, delivery_id=delivery_id))
        if found is None:
            raise NotFoundError("delivery", delivery_id)
        return found

    async def page(
        self,
        *,
        status: DeliveryStatus | None = None,
        subscription_id: str | None = None,
        event_id: str | None = None,
        event_type: str | None = None,
        since: int | None = None,
        before: str | None = None,
        limit: int,
    ) -> list[Delivery]:
        """Return deliveries that fit, newest first, from below the id ``before``; ``since`` in milliseconds."""
        return await self._store.read(
            partial(
                queries.page,
                status=status,
                subscription_id=subscription_id,
                event_id=event_id,
                event_type=event_type,
                since=since,
                before=before,
                limit=limit,
            )
        )

    async def stats(self) -> dict[str, int]:
        """Count subscriptions and deliveries, under the keys of ``GET /v1/webhooks/stats``."""
        return await self._store.read(queries.stats)
