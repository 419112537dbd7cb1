"""What becomes of calls into which a fault is injected, by the configuration or by an operator: the same words."""

import attrs

from econeura_daemon.core.validators import between, optional

HOUR_MS = 3_600_000


@attrs.frozen(kw_only=True)
class FaultSettings:
    """A delay, and then an answer in place of the instance's, a lost connection, or the call as it would have been."""

    percent: float = attrs.field(default=100.0, validator=between(0, 100))
    """Of the attempts."""
    delay_ms: int = attrs.field(default=0, validator=between(0, HOUR_MS))
    """Before anything else."""
    abort_status: int | None = attrs.field(default=None, validator=optional(between(200, 599)))
    """Answered in place of the instance."""
    drop: bool = False
    """The connection is lost before an answer."""

    def __attrs_post_init__(self) -> None:
        if self.drop and self.abort_status is not None:
            raise ValueError("a call is either dropped or aborted with a status")

    @property
    def does_something(self) -> bool:
        """Whether any attempt fares otherwise than without it."""
        return self.percent > 0 and (self.drop or self.abort_status is not None or self.delay_ms > 0)

    def __str__(self) -> str:
        deeds = [f"delayed by {self.delay_ms} ms"] if self.delay_ms else []
        if self.drop:
            deeds.append("dropped")
        if self.abort_status is not None:
            deeds.append(f"answered {self.abort_status}")
        return f"{self.percent:g} % are {' and '.join(deeds) or 'left alone'}"


NO_FAULTS = FaultSettings()
