"""Why something was refused, and until when."""

import attrs


@attrs.frozen
class Refusal:
    """A refusal of ours. Every state that refuses can say why and until when."""

    reason: str
    until: float | None = None
    """When it ends at the latest, in seconds on the clock that ``now`` was read from; None: not known."""
