"""How the worker's own parts are, and what they do as numbers."""

from econeura_daemon.registrant import Service
from econeura_daemon.telemetry import ComponentHealth, Metrics
from econeura_daemon.worker.mails import Mails
from econeura_daemon.worker.mailstore import MailStore
from econeura_daemon.worker.processing import Processors

SILENT = 15.0
"""Seconds without a scan, which is made every two, after which the mail store is away."""


def observe_mails(metrics: Metrics, mails: Mails) -> None:
    """Show what there is to do, and what the processes do."""
    store, processors, waiting = mails.store, mails.processors, mails.waiting
    metrics.gauge("mails", "Mails in the store", lambda: store.statistics().mails)
    metrics.gauge("mails_waiting", "Mails that wait to be processed", lambda: len(waiting))
    metrics.gauge("mails_under_way", "Mails that are being processed", lambda: waiting.under_way)
    metrics.gauge("processors", "Processes that are ready", lambda: processors.statistics().ready)
    metrics.counter("mails_read", "Mails that were understood", lambda: processors.statistics().processed)
    metrics.counter(
        "mails_refused", "Mails that cannot be processed", lambda: processors.statistics().unprocessable
    )
    metrics.counter(
        "processors_replaced",
        "Processes that took too long or ended by themselves",
        lambda: processors.statistics().timeouts + processors.statistics().deaths,
    )


def mail_store_health(store: MailStore) -> ComponentHealth:
    """Tell what the mail store holds; one that cannot be looked at is of no use."""
    found = store.statistics()
    detail = f"{found.kind}, {found.mails} mails in {found.folders} folders"
    if store.silent_for > SILENT:
        return ComponentHealth("unhealthy", f"{detail}; it is away, or hangs, for {store.silent_for:.0f} s")
    return ComponentHealth("healthy", detail)


def processors_health(processors: Processors) -> ComponentHealth:
    """Tell how the processes are that read mails."""
    found = processors.statistics()
    detail = f"{found.ready} of {found.processes} processes are ready, {found.busy} busy"
    if processors.unavailable is not None:
        return ComponentHealth("unhealthy", f"{detail}: {processors.unavailable}")
    if found.rules_error is not None:
        return ComponentHealth("degraded", f"{detail}; the old rules are in force: {found.rules_error}")
    return ComponentHealth("healthy", detail)


def daemon_health(service: Service, url: str) -> ComponentHealth:
    """Tell whether the daemon knows of this worker; without it, it serves whoever asks."""
    if service.is_registered and service.last_error is None:
        return ComponentHealth("healthy", f"registered at {url} as {service.id}, {service.status}")
    return ComponentHealth("degraded", f"not registered at {url}: {service.last_error or 'not yet'}")
