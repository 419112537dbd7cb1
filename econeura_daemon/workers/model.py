"""E-mails that workers process, and what came of it: the words of this package as values."""

import enum
from typing import Any

import attrs

from econeura_daemon.core.clock import format_ms


class Priority(enum.StrEnum):
    """How soon an e-mail gets its turn; see `workers.turns`."""

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class EmailStatus(enum.StrEnum):
    """What became of an e-mail."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class Email:
    """One e-mail that was to be processed, and what became of it. Instants are milliseconds since the epoch."""

    id: str
    """``eml_…``, of this processing; the same e-mail may be processed again."""
    message_id: str
    organization_id: str
    priority: Priority
    status: EmailStatus
    result: dict[str, Any] | None = None
    """As the worker gave it."""
    error: str | None = None
    service_id: str | None = None
    """The instance that answered, or failed last."""
    response_time: int = 0
    """Milliseconds until then; of a bulk, those of its chunk."""
    job_id: str | None = None
    """The bulk job that it was part of."""
    recorded_at: int

    def to_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "id": self.id,
            "messageId": self.message_id,
            "organizationId": self.organization_id,
            "priority": self.priority.value,
            "status": self.status.value,
            "result": self.result,
            "error": self.error,
            "serviceId": self.service_id,
            "responseTime": self.response_time,
            "jobId": self.job_id,
            "recordedAt": format_ms(self.recorded_at),
        }
