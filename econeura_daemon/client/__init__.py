"""The mesh: calling services by their type."""

from econeura_daemon.client.calls import Answer, Call, KeptBody
from econeura_daemon.client.client import Client, Facts, MeshTransport, facts_of, open_client
from econeura_daemon.client.errors import (
    CircuitOpenError,
    ConcurrencyLimitError,
    MeshError,
    NoHealthyInstanceError,
    RequestBodyTooSlowError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from econeura_daemon.client.faults import Fault, FaultBody
from econeura_daemon.client.mesh import Mesh, Observer
from econeura_daemon.client.recent import Called
from econeura_daemon.client.service import InstanceState, Service, Told

__all__ = [
    "Answer",
    "Call",
    "Called",
    "CircuitOpenError",
    "Client",
    "ConcurrencyLimitError",
    "Facts",
    "Fault",
    "FaultBody",
    "InstanceState",
    "KeptBody",
    "Mesh",
    "MeshError",
    "MeshTransport",
    "NoHealthyInstanceError",
    "Observer",
    "RequestBodyTooSlowError",
    "Service",
    "Told",
    "UpstreamTimeoutError",
    "UpstreamUnreachableError",
    "facts_of",
    "open_client",
]
