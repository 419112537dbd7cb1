"""The workers' contract over HTTP."""

from econeura_daemon.api.routes import deliveries, events, operations
from econeura_daemon.api.routing import Routes
from econeura_daemon.worker.routes import crons, emails


def _reading(routes: Routes) -> Routes:
    """Return those that read: what is told to the daemon comes from the worker alone."""
    found = Routes(routes.tag)
    found.all = [route for route in routes.all if route.method == "GET"]
    return found


GROUPS = [operations.routes, emails.routes, crons.routes, _reading(events.routes), deliveries.routes]
"""What happened here, and what is owed to the daemon, is read as it is there."""
