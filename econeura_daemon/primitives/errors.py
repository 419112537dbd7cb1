"""What the primitives raise when they refuse, drawn.

    EconeuraError
    └── RefusedError                 has a reason, and until when at the latest
        ├── BreakerOpenError         the breaker is open, or all of its trials are under way
        ├── BudgetExhaustedError     no retry is left
        ├── QueueFullError           so many wait already that nobody may wait any more
        ├── LimitReachedError        `_nowait`: no slot is free; also a `trio.WouldBlock`
        └── RateLimitedError         `_nowait`: no token is there; also a `trio.WouldBlock`

A refusal is ours: it says nothing about whoever was to be called, so breakers and limiters further out that see
one pass count it as nothing.
"""

import trio

from econeura_daemon.core.errors import EconeuraError


class RefusedError(EconeuraError):
    """Something of ours refused the call before it began."""

    def __init__(self, what: str, reason: str, until: float | None = None) -> None:
        super().__init__(f"{what}: {reason}")
        self.reason = reason
        """Why, in words."""
        self.until = until
        """When the reason is gone at the latest, on Trio's clock (for `trio.sleep_until`); None: not known."""


class BreakerOpenError(RefusedError):
    """The breaker does not let the call through at present."""


class BudgetExhaustedError(RefusedError):
    """The budget has no retry left: the failure of the last attempt is the result."""


class QueueFullError(RefusedError):
    """All is taken, and as many callers as may wait are waiting."""


class LimitReachedError(RefusedError, trio.WouldBlock):
    """No slot is free, or others wait for the next one."""


class RateLimitedError(RefusedError, trio.WouldBlock):
    """The rate does not allow it now, or others wait for the next token."""
