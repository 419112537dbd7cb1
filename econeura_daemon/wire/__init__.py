"""Outgoing HTTP: who may be called, and calling."""

from econeura_daemon.wire.egress import EgressGuard
from econeura_daemon.wire.streams import AnswerTooLargeError
from econeura_daemon.wire.targets import check_headers, check_url
from econeura_daemon.wire.transport import GuardedTransport, open_transport

__all__ = [
    "AnswerTooLargeError",
    "EgressGuard",
    "GuardedTransport",
    "check_headers",
    "check_url",
    "open_transport",
]
