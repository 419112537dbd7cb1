"""How many calls at once an instance takes: additive increase, multiplicative decrease.

Source: the AIMD limit of Netflix' concurrency-limits (``AIMDLimit.java``), with its constants.
"""

import attrs

from econeura_daemon.core.validators import at_least, between


@attrs.frozen(kw_only=True)
class AdaptivePolicy:
    """Bounds and steps of an adaptive limit."""

    initial: int = attrs.field(default=20, validator=at_least(1))
    minimum: int = attrs.field(default=1, validator=at_least(1))
    maximum: int = attrs.field(default=200, validator=at_least(1))
    backoff: float = attrs.field(default=0.9, validator=between(0.1, 0.99))
    """What a drop multiplies the limit by."""

    def __attrs_post_init__(self) -> None:
        if not self.minimum <= self.initial <= self.maximum:
            raise ValueError(
                f"expected minimum <= initial <= maximum, got {self.minimum}, {self.initial}, {self.maximum}"
            )

    def after_success(self, limit: int, in_flight: int) -> int:
        """Return the limit after a call that went well while ``in_flight`` were under way, itself included.

        It grows only while it is made use of, half of it at least: an idle instance proves nothing.
        """
        return min(limit + 1, self.maximum) if in_flight * 2 >= limit else limit

    def after_drop(self, limit: int) -> int:
        """Return the limit after a call that timed out or was told to come later; lower by one at least."""
        return max(int(limit * self.backoff), self.minimum)
