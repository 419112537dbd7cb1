"""Outgoing HTTP: who may be called, and calling."""

from econeura_daemon.wire.egress import EgressGuard as EgressGuard
from econeura_daemon.wire.streams import AnswerTooLargeError as AnswerTooLargeError
from econeura_daemon.wire.targets import check_headers as check_headers
from econeura_daemon.wire.targets import check_url as check_url
from econeura_daemon.wire.transport import GuardedTransport as GuardedTransport
from econeura_daemon.wire.transport import open_transport as open_transport
