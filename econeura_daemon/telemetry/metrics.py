"""What the daemon counts, and the page at ``/metrics``.

Names follow https://prometheus.io/docs/practices/naming/ under the prefix ``econeura_``: base units,
``_total`` for counters. Labels are bounded: methods and outcomes are closed sets, routes are templates that
the application gives.
"""

import logging
import platform
from collections.abc import Callable, Iterable
from typing import Protocol

import trio
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from econeura_daemon._version import VERSION
from econeura_daemon.telemetry.instruments import OTHER, Counter, Frozen, Gauge, Histogram, Reading, Sampled

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

PREFIX = "econeura_"

RENDERED_FOR = 1.0
"""Seconds for which a page is given out again: scrapers come every few seconds, a page of 2,000 series costs
40 ms.
"""

QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds, for what a person or a peer waits for: half a millisecond to a minute."""

LONG = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 4 * 24 * 3600),
)
"""Seconds, for a delivery from its event to the subscriber's 2xx: a millisecond to the end of the retry
schedule.
"""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_log = logging.getLogger(__name__)


class Instrument(Protocol):
    """Something with numbers to show."""

    def freeze(self) -> Frozen:
        """Copy the present numbers."""
        ...


class Metrics:
    """Every number of one daemon; nothing is global, so that tests run many daemons in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._instruments: list[Instrument] = []
        self._frozen: list[Frozen] = []
        self._page = b""
        self._page_until = float("-inf")
        self._rendering = trio.Lock()

        self.http_requests = self._counter(
            "http_requests", "Requests answered", ("method", "route", "status")
        )
        self.http_request_seconds = self._histogram(
            "http_request_seconds", "From a request's head to the end of its answer", QUICK, ("route",)
        )
        self.http_connections = self._gauge("http_connections", "Open connections")
        self.http_requests_in_flight = self._gauge("http_requests_in_flight", "Requests being handled")

        self.events_published = self._counter("events_published", "Events committed")
        self.deliveries = self._counter("deliveries", "Deliveries that came to an end", ("outcome",))
        self.attempts = self._counter("attempts", "Attempts to deliver", ("outcome",))
        self.attempt_seconds = self._histogram(
            "attempt_seconds", "One attempt, from look-up to the end of the answer", QUICK
        )
        self.delivery_latency_seconds = self._histogram(
            "delivery_latency_seconds", "From an event's commit to the subscriber's 2xx", LONG
        )
        self.deliveries_backlog = self._gauge(
            "deliveries_backlog", "Deliveries that have not come to an end", ("status",)
        )

        self.webhooks_received = self._counter(
            "webhooks_received", "Webhooks that came in: stored, duplicate, or why refused", ("outcome",)
        )

        self.mesh_requests = self._counter(
            "mesh_requests", "Calls of services: 2xx and so on, or the slug of a problem", ("type", "outcome")
        )
        self.mesh_attempts = self._counter(
            "mesh_attempts",
            "Attempts to call services: 2xx and so on, or why there was no answer",
            ("type", "outcome"),
        )
        self.mesh_request_seconds = self._histogram(
            "mesh_request_seconds", "From a call's beginning to the head of its answer", QUICK, ("type",)
        )

        self.emails = self._counter("emails", "E-mails that workers were to process", ("outcome",))

        self.cron_runs = self._counter("cron_runs", "Runs of jobs that came to an end", ("outcome",))
        self.cron_lateness_seconds = self._histogram(
            "cron_lateness_seconds",
            "From the instant at which ticks were due to the look that took them",
            QUICK,
        )

        self.store_commit_seconds = self._histogram(
            "store_commit_seconds", "One group, from its first work to the end of its commit", QUICK
        )
        self.event_loop_lag_seconds = self._histogram(
            "event_loop_lag_seconds", "How late a timer of the event loop fires", QUICK
        )
        self.loop_restarts = self._counter(
            "loop_restarts", "Restarts of a supervised loop after a bug", ("loop",)
        )

        self.registry.register(_Page(self))
        ProcessCollector(namespace=PREFIX.rstrip("_"), registry=self.registry)

    def request_done(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count one answered request; ``route`` is the application's template, None where none matched."""
        route = route or OTHER
        self.http_requests.inc(method if method in _METHODS else OTHER, route, str(status))
        self.http_request_seconds.observe(seconds, route)

    def gauge(self, name: str, text: str, read: Callable[[], Reading], label: str | None = None) -> None:
        """Show ``econeura_<name>``, whose level ``read`` tells: a number, or a mapping from the values of
        ``label``.

        ``read`` is called on the event loop's thread and must not block. One that raises is logged and left
        out.
        """
        self._instruments.append(Sampled(PREFIX + name, text, read, label=label, counts=False))

    def counter(self, name: str, text: str, read: Callable[[], Reading], label: str | None = None) -> None:
        """Like `gauge`, for a number that only grows; ``name`` without ``_total``."""
        self._instruments.append(Sampled(PREFIX + name, text, read, label=label, counts=True))

    async def render(self) -> bytes:
        """Return the page in the text format 0.0.4; at most `RENDERED_FOR` seconds old.

        The numbers are copied on the event loop, which takes microseconds and makes them consistent; the text
        is made in a worker thread. Readers that come while it is being made wait for the same page.
        """
        async with self._rendering:
            if trio.current_time() >= self._page_until:
                self._frozen = list(self._freeze())
                self._page = await trio.to_thread.run_sync(generate_latest, self.registry)
                self._page_until = trio.current_time() + RENDERED_FOR
            return self._page

    def _freeze(self) -> Iterable[Frozen]:
        for instrument in self._instruments:
            try:
                yield instrument.freeze()
            except Exception:  # noqa: BLE001 - one number must not cost the page
                _log.exception("a metric could not be read")

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        instrument = Counter(PREFIX + name, text, labels)
        self._instruments.append(instrument)
        return instrument

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        instrument = Gauge(PREFIX + name, text, labels)
        self._instruments.append(instrument)
        return instrument

    def _histogram(
        self, name: str, text: str, bounds: Iterable[float], labels: tuple[str, ...] = ()
    ) -> Histogram:
        instrument = Histogram(PREFIX + name, text, tuple(bounds), labels)
        self._instruments.append(instrument)
        return instrument


class _Page(Collector):
    """Hands the registry what the event loop copied last: rendering reads nothing that is being written."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        info = GaugeMetricFamily(PREFIX + "build_info", "The version that runs", labels=("version", "python"))
        info.add_metric((VERSION, platform.python_version()), 1)
        return [info, *(family() for family in self._metrics._frozen)]  # noqa: SLF001 - one class in two halves
