"""The event log: facts are appended in anyone's transaction, owed to subscribers, followed by readers."""

from econeura_daemon.events.log import TOPIC, EventLog, FanOut, TooManyDeliveriesError
from econeura_daemon.events.model import Event, PublishBatch, Published, PublishEvent, StoredEvent
from econeura_daemon.events.passing import Listener
from econeura_daemon.events.patterns import candidates, matches_any, pattern_flaw
from econeura_daemon.events.publisher import Publisher
from econeura_daemon.events.queued import QueuedEvents

__all__ = [
    "TOPIC",
    "Event",
    "EventLog",
    "FanOut",
    "Listener",
    "PublishBatch",
    "PublishEvent",
    "Published",
    "Publisher",
    "QueuedEvents",
    "StoredEvent",
    "TooManyDeliveriesError",
    "candidates",
    "matches_any",
    "pattern_flaw",
]
