"""What processing a mail gives, and why it may give nothing."""

from collections.abc import Mapping
from typing import Any

import attrs

from econeura_daemon.core.errors import EconeuraError


class UnprocessableError(EconeuraError):
    """Nothing can be said about this mail; trying again would change nothing.

    Too large, empty, no mail at all, or its processing took too long or ended the process that did it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The mail cannot be processed: {reason}")
        self.reason = reason


@attrs.frozen(kw_only=True)
class Processed:
    """What a mail was found to be.

    ``action`` is what is suggested: ``categorize``, ``archive``, ``forward`` (to ``forward_to``) or ``none``.
    ``confidence`` (0 to 1) is that of the category. ``language`` is an ISO 639 code, ``und`` if it cannot be told.
    ``entities`` holds lists by kind; kinds of which the mail has none are left out. ``defects`` says what was wrong
    with the mail, for people. ``milliseconds`` is how long it took.
    """

    action: str
    confidence: float
    category: str
    sentiment: str
    urgency: str
    language: str
    entities: Mapping[str, list[Any]]
    forward_to: str | None = None
    defects: tuple[str, ...] = ()
    milliseconds: float = 0.0

    def as_result(self) -> dict[str, Any]:
        """Return the result as the contract has it; ``metadata.defects`` only of a mail that has some."""
        metadata: dict[str, Any] = {
            "category": self.category,
            "sentiment": self.sentiment,
            "urgency": self.urgency,
            "language": self.language,
            "entities": dict(self.entities),
        }
        if self.defects:
            metadata["defects"] = list(self.defects)
        return {
            "processed": True,
            "action": self.action,
            "confidence": self.confidence,
            "metadata": metadata,
            "processingTime": self.milliseconds,
        }
