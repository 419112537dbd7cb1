"""The HTTP API: routes of a few lines over the features, on Quart."""

from econeura_daemon.api.app import create_app, find_passage, hot_routes, scope_of
from econeura_daemon.api.services import Discovery, Services

__all__ = ["Discovery", "Services", "create_app", "find_passage", "hot_routes", "scope_of"]
