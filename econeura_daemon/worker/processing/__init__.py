"""From the raw bytes of a mail to what it is about."""

from econeura_daemon.worker.processing.model import Processed, UnprocessableError
from econeura_daemon.worker.processing.processing import process
from econeura_daemon.worker.processing.processors import (
    Processors,
    ProcessorStatistics,
    ProcessorsUnavailableError,
    open_processors,
)
from econeura_daemon.worker.processing.rules import DEFAULT_RULES, Rules

__all__ = [
    "DEFAULT_RULES",
    "Processed",
    "ProcessorStatistics",
    "Processors",
    "ProcessorsUnavailableError",
    "Rules",
    "UnprocessableError",
    "open_processors",
    "process",
]
