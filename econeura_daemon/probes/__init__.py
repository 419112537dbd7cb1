"""Health probes: every instance that has a check is asked how it is."""

from econeura_daemon.probes.client import ProbeClient, open_probe_client
from econeura_daemon.probes.model import LastProbe, Outcome, ProbeResult
from econeura_daemon.probes.prober import Prober, open_prober

__all__ = [
    "LastProbe",
    "Outcome",
    "ProbeClient",
    "ProbeResult",
    "Prober",
    "open_probe_client",
    "open_prober",
]
