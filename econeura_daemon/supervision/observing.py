"""What store and webhooks do, as numbers: the place where they meet `telemetry.Metrics`."""

import logging

import trio

from econeura_daemon.core.errors import StoreError
from econeura_daemon.storage import Store
from econeura_daemon.telemetry import ComponentHealth, Metrics
from econeura_daemon.webhooks import Deliveries, Dispatcher, Lanes
from econeura_daemon.webhooks.model import AttemptOutcome, Outgoing
from econeura_daemon.webhooks.schedule import Delivered, Failed, Step

BACKLOG_EVERY = 5.0
"""Seconds between looks at the backlog."""

_log = logging.getLogger(__name__)


class DeliveryObserver:
    """The dispatcher's `Observer`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def attempted(self, outgoing: Outgoing, outcome: AttemptOutcome, step: Step, now: int) -> None:
        """Count one attempt, and its delivery if that came to an end."""
        metrics = self._metrics
        metrics.attempts.inc("succeeded" if outcome.succeeded else "failed")
        metrics.attempt_seconds.observe(outcome.duration_ms / 1000)
        match step:
            case Delivered():
                metrics.deliveries.inc("delivered")
                metrics.delivery_latency_seconds.observe(max(0, now - outgoing.created_at) / 1000)
            case Failed():
                metrics.deliveries.inc("failed")


def observe_store(metrics: Metrics, store: Store) -> None:
    """Show how the store is doing."""
    store.observe_commits(metrics.store_commit_seconds.observe)
    metrics.gauge("store_queue", "Works that wait for the writer", lambda: store.statistics().queued)
    metrics.counter("store_groups", "Groups committed", lambda: store.statistics().groups)
    metrics.counter("store_works", "Works committed", lambda: store.statistics().works)
    metrics.counter("store_failures", "Works that failed", lambda: store.statistics().failures)


async def observe_backlog(
    metrics: Metrics, deliveries: Deliveries, *, task_status: trio.TaskStatus[None]
) -> None:
    """Show, for ever, how many deliveries have not come to an end: asked of the store, which others fill too."""
    task_status.started()
    while True:
        try:
            counts = await deliveries.stats()
        except StoreError as error:
            _log.warning("the backlog could not be counted: %s", error)
        else:
            in_flight = counts["inFlightDeliveries"]
            metrics.deliveries_backlog.set(in_flight, "delivering")
            metrics.deliveries_backlog.set(counts["pendingDeliveries"] - in_flight, "waiting")
        await trio.sleep(BACKLOG_EVERY)


def observe_lanes(metrics: Metrics, lanes: Lanes) -> None:
    """Show how full the dispatcher is."""
    metrics.gauge("attempts_in_flight", "Attempts under way", lambda: lanes.statistics().in_flight)
    metrics.gauge(
        "lanes", "Subscriptions with something to do, by what", lambda: _lanes_by_state(lanes), label="state"
    )


def _lanes_by_state(lanes: Lanes) -> dict[str, float]:
    statistics = lanes.statistics()
    return {"waiting": statistics.waiting, "failing": statistics.failing, "known": statistics.lanes}


def database_health(store: Store) -> ComponentHealth:
    """Tell whether the database takes works."""
    statistics = store.statistics()
    if statistics.trouble is not None:
        return ComponentHealth("unhealthy", statistics.trouble)
    return ComponentHealth("healthy", f"{statistics.backend}, {statistics.queued} works wait")


def dispatcher_health(loop: ComponentHealth, dispatcher: Dispatcher, lanes: Lanes) -> ComponentHealth:
    """Tell how the dispatcher's loop is, and how much it has to do."""
    statistics = lanes.statistics()
    return ComponentHealth(
        loop.status,
        f"{loop.detail}; {len(dispatcher.under_way)} attempts under way, {statistics.waiting} subscriptions wait, "
        f"{statistics.failing} fail",
    )
