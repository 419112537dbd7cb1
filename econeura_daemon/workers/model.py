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


class JobStatus(enum.StrEnum):
    """Where a bulk job stands: queued, running, and one of the ends.

    `PARTIAL`: some of its e-mails failed; `FAILED`: all did.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_end(self) -> bool:
        """Whether nothing more will come of it."""
        return self not in {JobStatus.QUEUED, JobStatus.RUNNING}


@attrs.frozen(kw_only=True)
class BulkJob:
    """A bulk that goes on after its 202. Instants are milliseconds since the epoch."""

    id: str
    organization_id: str
    priority: Priority
    metadata: dict[str, Any] = attrs.field(factory=dict)
    status: JobStatus = JobStatus.QUEUED
    total: int
    done: int = 0
    successful: int = 0
    failed: int = 0
    is_canceled: bool = False
    """Somebody asked for its end."""
    created_at: int
    started_at: int | None = None
    finished_at: int | None = None

    @property
    def end(self) -> JobStatus:
        """Which end it comes to if nothing more is done."""
        if self.done < self.total:
            return JobStatus.CANCELED
        if self.failed == 0:
            return JobStatus.SUCCEEDED
        return JobStatus.PARTIAL if self.successful else JobStatus.FAILED

    def to_json(self) -> dict[str, Any]:
        """Return it as the API shows it, without results."""
        return {
            "id": self.id,
            "status": self.status.value,
            "total": self.total,
            "done": self.done,
            "successful": self.successful,
            "failed": self.failed,
            "organizationId": self.organization_id,
            "priority": self.priority.value,
            "createdAt": format_ms(self.created_at),
            "startedAt": None if self.started_at is None else format_ms(self.started_at),
            "finishedAt": None if self.finished_at is None else format_ms(self.finished_at),
        }
