"""Circuit breaker, limiters and retry budget as Trio synchronisation primitives: see docs/primitives.md.

They can be used without the rest of the daemon; Trio and attrs are all that they need.
"""

from econeura_daemon.primitives.adaptive import (
    AdaptiveLimiter,
    AdaptiveLimiterStatistics,
    LimitedCall,
    Sample,
)
from econeura_daemon.primitives.breaker import AdmittedCall, CircuitBreaker, CircuitBreakerStatistics
from econeura_daemon.primitives.bulkhead import Bulkhead, BulkheadStatistics
from econeura_daemon.primitives.errors import (
    BreakerOpenError,
    BudgetExhaustedError,
    LimitReachedError,
    QueueFullError,
    RateLimitedError,
    RefusedError,
)
from econeura_daemon.primitives.rate_limiter import RateLimiter, RateLimiterStatistics
from econeura_daemon.primitives.retry_budget import Retries, RetryBudget, RetryBudgetStatistics
from econeura_daemon.resilience.adaptive import AdaptivePolicy
from econeura_daemon.resilience.breaker import Phase, State
from econeura_daemon.resilience.breaker_policy import BreakerPolicy
from econeura_daemon.resilience.budget import BudgetPolicy
from econeura_daemon.resilience.outcomes import Verdict, verdict_of_status

__all__ = [
    "AdaptiveLimiter",
    "AdaptiveLimiterStatistics",
    "AdaptivePolicy",
    "AdmittedCall",
    "BreakerOpenError",
    "BreakerPolicy",
    "BudgetExhaustedError",
    "BudgetPolicy",
    "Bulkhead",
    "BulkheadStatistics",
    "CircuitBreaker",
    "CircuitBreakerStatistics",
    "LimitReachedError",
    "LimitedCall",
    "Phase",
    "QueueFullError",
    "RateLimitedError",
    "RateLimiter",
    "RateLimiterStatistics",
    "RefusedError",
    "Retries",
    "RetryBudget",
    "RetryBudgetStatistics",
    "Sample",
    "State",
    "Verdict",
    "verdict_of_status",
]
