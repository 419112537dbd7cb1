"""Outgoing HTTP: who may be called, and calling."""

from econeura_daemon.wire.egress import EgressGuard
from econeura_daemon.wire.exchange import AnswerCutError, AnswerTooLargeError
from econeura_daemon.wire.internal import InternalGuard
from econeura_daemon.wire.opening import open_internal_transport, open_transport
from econeura_daemon.wire.pool import Limits, Pool
from econeura_daemon.wire.prepared import OverHttpx, Posting, Sink
from econeura_daemon.wire.requests import Body, Target, header_lines, request_line
from econeura_daemon.wire.routes import Routes
from econeura_daemon.wire.targets import check_headers, check_url
from econeura_daemon.wire.transport import GuardedTransport, WireAnswer

__all__ = [
    "AnswerCutError",
    "AnswerTooLargeError",
    "Body",
    "EgressGuard",
    "GuardedTransport",
    "InternalGuard",
    "Limits",
    "OverHttpx",
    "Pool",
    "Posting",
    "Routes",
    "Sink",
    "Target",
    "WireAnswer",
    "check_headers",
    "check_url",
    "header_lines",
    "open_internal_transport",
    "open_transport",
    "request_line",
]
