"""How calls to services of one type are made, from its settings. Pure."""

import attrs

from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.resilience import AdaptivePolicy, BreakerPolicy, RetryPolicy

_INITIAL = 20
_SHARED = 5.0
"""Seconds for which breakers are open for what befell most instances at once; as often as a probe looks while a
verdict is in doubt.
"""


@attrs.frozen(kw_only=True)
class ServicePolicy:
    """Durations in seconds."""

    timeout: float
    """From the call's beginning to the head of its answer, waits and retries included; then between two parts of
    the body.
    """
    try_timeout: float
    """One attempt of a call that may be repeated; one connect of any, for that may always be."""
    retry: RetryPolicy
    breaker: BreakerPolicy
    """Of each instance."""
    service_breaker: BreakerPolicy
    """Of the service: it knows only the rate of whole calls. It is open for as long as shared trouble is taken to last,
    and has no ramp: each instance has its own, and a limit.
    """
    shared_open_for: float
    """An instance's breaker, while those of most are open: a slow moment of all is to be no minute without answers."""
    limit: AdaptivePolicy
    max_waiting: int
    """Calls that wait for one instance."""
    balancer: str

    @classmethod
    def of(cls, settings: MeshSettings) -> "ServicePolicy":
        """Return what the settings of a type say."""
        timeout = settings.timeout_ms / 1000
        try_timeout = timeout / 3 if settings.try_timeout_ms is None else settings.try_timeout_ms / 1000
        open_for = settings.circuit_breaker_open_ms / 1000
        shared = min(open_for, _SHARED)
        breaker = BreakerPolicy(
            failures_in_a_row=settings.circuit_breaker_threshold,
            open_for=open_for,
            max_open_for=max(open_for, BreakerPolicy().max_open_for),
            timeout=try_timeout,
            is_shedding=False,  # the roster gives it the lesser part
        )
        return cls(
            timeout=timeout,
            try_timeout=min(try_timeout, timeout),
            retry=RetryPolicy(retries=settings.retries),
            breaker=breaker,
            service_breaker=attrs.evolve(
                breaker,
                failures_in_a_row=None,
                timeout=timeout,
                open_for=shared,
                max_open_for=shared,
                ramp=0.0,
            ),
            shared_open_for=shared,
            limit=AdaptivePolicy(
                initial=min(_INITIAL, settings.max_concurrency), maximum=settings.max_concurrency
            ),
            max_waiting=settings.max_waiting,
            balancer=settings.balancer,
        )

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it, by the names of the settings."""
        return {
            "timeoutMs": round(self.timeout * 1000),
            "tryTimeoutMs": round(self.try_timeout * 1000),
            "retries": self.retry.retries,
            "circuitBreakerThreshold": self.breaker.failures_in_a_row,
            "circuitBreakerOpenMs": round(self.breaker.open_for * 1000),
            "maxConcurrency": self.limit.maximum,
            "maxWaiting": self.max_waiting,
            "balancer": self.balancer,
        }
