"""From the raw bytes of a mail to what it is about."""

from econeura_daemon.worker.processing.model import Processed, UnprocessableError

__all__ = ["Processed", "UnprocessableError"]
