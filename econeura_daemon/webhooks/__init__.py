"""Webhooks: an event is owed to whoever subscribed, signed, delivered at least once, every attempt recorded."""

from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.commands import CreateSubscription, SubscriptionBody
from econeura_daemon.webhooks.deliveries import Deliveries
from econeura_daemon.webhooks.dispatcher import Dispatcher
from econeura_daemon.webhooks.dispatching import open_dispatcher
from econeura_daemon.webhooks.fan_out import SubscriptionFanOut
from econeura_daemon.webhooks.inbound import (
    Inbound,
    InboundEvent,
    MissingHeadersError,
    NoSecretError,
    Received,
)
from econeura_daemon.webhooks.lanes import Lanes
from econeura_daemon.webhooks.policies import Policies
from econeura_daemon.webhooks.recorder import Recorder
from econeura_daemon.webhooks.signing import SignatureError
from econeura_daemon.webhooks.subscriptions import Subscriptions, subscription_json

__all__ = [
    "Claimant",
    "CreateSubscription",
    "Deliveries",
    "Dispatcher",
    "Inbound",
    "InboundEvent",
    "Lanes",
    "MissingHeadersError",
    "NoSecretError",
    "Policies",
    "Received",
    "Recorder",
    "SignatureError",
    "SubscriptionBody",
    "SubscriptionFanOut",
    "Subscriptions",
    "open_dispatcher",
    "subscription_json",
]
