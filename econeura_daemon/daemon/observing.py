"""What discovery does, as numbers: the place where it meets `telemetry.Metrics`."""

from econeura_daemon.probes import Prober
from econeura_daemon.registry import Registry
from econeura_daemon.telemetry import ComponentHealth, Metrics
from econeura_daemon.telemetry.health import worst

PROBES_LATE = 10.0
"""Seconds that a probe may wait for room."""


def observe_registry(metrics: Metrics, registry: Registry, prober: Prober) -> None:
    """Show who is registered, who waits, and what the prober does."""
    metrics.gauge("instances", "Instances of services, by status", registry.by_status, label="status")
    metrics.gauge("watchers", "Requests that wait for the registry", lambda: registry.watches.waiting)
    metrics.gauge("probes_in_flight", "Probes under way", lambda: prober.in_flight)
    metrics.gauge("probes_waiting", "Probes that are due and find no room", lambda: prober.waiting)


def registry_health(loop: ComponentHealth, registry: Registry) -> ComponentHealth:
    """Tell how the registry's loops are, and what it holds."""
    counts = registry.by_status()
    detail = f"{loop.detail}; {counts['healthy']} of {sum(counts.values())} instances are healthy"
    troubles = list(registry.unresolved.values())
    if registry.leases.preserve_mode():
        troubles.append(f"preserve mode: {registry.leases.preserve.cause}")
    if not troubles:
        return ComponentHealth(loop.status, detail)
    return ComponentHealth(worst([loop, ComponentHealth("degraded")]), "; ".join([detail, *troubles]))


def prober_health(timers: ComponentHealth, prober: Prober) -> ComponentHealth:
    """Tell what the prober does, and whether it keeps up; ``timers`` tells it what is due."""
    detail = f"{prober.checks} instances have a check, {prober.in_flight} probes run, {prober.waiting} wait"
    if prober.late_by > PROBES_LATE:
        detail += f", the first for {prober.late_by:.0f} s: discovery.max_probes may be too low"
        return ComponentHealth(worst([timers, ComponentHealth("degraded")]), detail)
    return ComponentHealth(timers.status, detail)
