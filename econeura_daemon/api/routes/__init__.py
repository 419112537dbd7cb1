"""One file of routes a feature; each route is a few lines."""

from econeura_daemon.api.routes import (
    analytics,
    bulks,
    cron,
    deliveries,
    events,
    inbound,
    mesh_faults,
    operations,
    services,
    stream,
    subscriptions,
    workers,
)

GROUPS = [
    operations.routes,
    services.routes,
    mesh_faults.routes,  # with those of `mesh`
    events.routes,
    stream.routes,
    subscriptions.routes,
    deliveries.routes,
    workers.routes,
    bulks.routes,
    inbound.routes,
    cron.routes,
    analytics.routes,
]

HOT = {**events.HOT, **inbound.HOT, **services.HOT}
"""Those that `server` serves itself."""
