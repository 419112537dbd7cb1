"""Why a call to a service brought no answer, drawn.

    EconeuraError, httpx.TransportError
    └── MeshError                        has the slug of a problem, and how many attempts were made
        ├── NoHealthyInstanceError       nobody may be asked                                      (503)
        ├── CircuitOpenError             whoever may be asked failed too often, lately            (503)
        ├── ConcurrencyLimitError        whoever may be asked has as much to do as it takes       (503)
        ├── UpstreamTimeoutError         no answer within the deadline                            (504)
        ├── RequestBodyTooSlowError      the caller's own body did not come in time                 (408)
        └── UpstreamUnreachableError     no connection, or one that ended before the answer       (502)

An answer is none of these, whatever its status.
"""

from typing import ClassVar

import httpx

from econeura_daemon.core.errors import EconeuraError
from econeura_daemon.resilience import Outcome


class MeshError(EconeuraError, httpx.TransportError):
    """A call that brought no answer."""

    slug: ClassVar[str]

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        httpx.TransportError.__init__(self, detail)
        self.retry_after = retry_after
        """Seconds after which it may go better; None: not known."""
        self.attempts = 0
        self.service_id: str | None = None
        """The instance that was asked last; None: none was."""


class NoHealthyInstanceError(MeshError):
    """Nobody may be asked."""

    slug = "no-healthy-instance"


class CircuitOpenError(MeshError):
    """Whoever may be asked failed too often, lately."""

    slug = "circuit-open"


class ConcurrencyLimitError(MeshError):
    """Whoever may be asked has as much to do as it takes, and no place in the queue brought a turn in time."""

    slug = "concurrency-limit"


class UpstreamTimeoutError(MeshError):
    """No answer within the deadline."""

    slug = "upstream-timeout"


class RequestBodyTooSlowError(MeshError):
    """The deadline passed while more of the caller's own body was awaited: nobody else's failure."""

    slug = "request-timeout"


class UpstreamUnreachableError(MeshError):
    """No connection, or one that ended before the answer."""

    slug = "upstream-unreachable"


class AttemptFailedError(Exception):
    """One attempt brought no answer; between the steps only."""

    def __init__(self, outcome: Outcome, cause: str) -> None:
        super().__init__(cause)
        self.outcome = outcome
