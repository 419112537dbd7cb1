"""Probes and what comes of them: the words of this package as values."""

import enum
from typing import Any

import attrs

from econeura_daemon.core.clock import format_ms

MAX_OUTPUT = 4096
"""Bytes of an answer that are kept."""


class Outcome(enum.StrEnum):
    """How a probe went."""

    PASS = "pass"  # noqa: S105 - no password
    WARNING = "warning"
    """It is overloaded and says so (429): not a failure, for fewer instances would make it worse."""
    FAIL = "fail"


@attrs.frozen(kw_only=True)
class ProbeResult:
    """How one probe ended. Never an exception: whatever an instance does is expected."""

    outcome: Outcome
    detail: str
    """In words: ``HTTP 503 'db down'``, ``connection refused by 127.0.0.1:9999``."""
    output: bytes = attrs.field(default=b"", repr=False)
    """The first 4 KiB of the answer's body."""

    @property
    def passed(self) -> bool:
        """It speaks for the instance."""
        return self.outcome is not Outcome.FAIL


@attrs.frozen(kw_only=True)
class LastProbe:
    """The last result of an instance, and when it came."""

    at: int
    """Milliseconds since the epoch."""
    duration_ms: int
    result: ProbeResult

    def to_json(self) -> dict[str, Any]:
        """Return it as the API shows it; bytes that are not UTF-8 show as U+FFFD."""
        return {
            "at": format_ms(self.at),
            "result": self.result.outcome.value,
            "detail": self.result.detail,
            "durationMs": self.duration_ms,
            "output": self.result.output.decode(errors="replace"),
        }
