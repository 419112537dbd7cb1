"""Service discovery: who is there, is it well, and who waits to hear that it changed."""

from econeura_daemon.registry.book import Registered
from econeura_daemon.registry.commands import RegisterService
from econeura_daemon.registry.declared import Declared
from econeura_daemon.registry.registry import FoundEndpoint, Registry, open_registry
from econeura_daemon.registry.snapshot import Snapshot
from econeura_daemon.registry.timers import Timer, Timers
from econeura_daemon.registry.watch import Query, Watchers

__all__ = [
    "Declared",
    "FoundEndpoint",
    "Query",
    "RegisterService",
    "Registered",
    "Registry",
    "Snapshot",
    "Timer",
    "Timers",
    "Watchers",
    "open_registry",
]
