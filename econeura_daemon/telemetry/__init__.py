"""Logs, metrics, health and trace context."""

from econeura_daemon.telemetry.health import ComponentHealth, HealthBoard, Status, worst
from econeura_daemon.telemetry.logs import Logs, announce, open_logging
from econeura_daemon.telemetry.metrics import METRICS_CONTENT_TYPE, Metrics
from econeura_daemon.telemetry.trace import (
    TraceContext,
    child,
    new_trace,
    parse_traceparent,
    parse_tracestate,
)

__all__ = [
    "METRICS_CONTENT_TYPE",
    "ComponentHealth",
    "HealthBoard",
    "Logs",
    "Metrics",
    "Status",
    "TraceContext",
    "announce",
    "child",
    "new_trace",
    "open_logging",
    "parse_traceparent",
    "parse_tracestate",
    "worst",
]
