"""Jobs and runs: the words of this package as values."""

import enum
from collections.abc import Sequence
from typing import Any

import attrs

from econeura_daemon.core.clock import format_ms
from econeura_daemon.core.jobs import ActionKind, JobBody

MAX_OUTPUT = 4096
"""Bytes of a run's output that are kept."""


class RunStatus(enum.StrEnum):
    """Where a run stands.

    queued → (claimed) running → succeeded, failed or timed_out; failed and timed_out are queued again while retries
    remain. `UNKNOWN`: the daemon died in mid-run; it is claimed again while retries remain. `SKIPPED`: a run of the
    job was under way, and the job does not overlap. `MISSED`: nobody was there, and the misfire policy lets it go.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"
    MISSED = "missed"
    UNKNOWN = "unknown"


class RunTrigger(enum.StrEnum):
    """Why a run was made: a tick, or somebody's wish."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"


@attrs.frozen(kw_only=True)
class Job:
    """A cron job. Instants are milliseconds since the epoch."""

    id: str
    body: JobBody
    created_at: int
    updated_at: int
    counts_from: int
    """Ticks before it are nobody's: it was created, enabled or edited then."""
    declared_by: str | None = None
    """The daemon whose configuration declares it; None: made through the API."""
    last_scheduled_at: int | None = None
    """The last tick that has a run."""
    next_at: int | None = None
    """The next tick; None while disabled, or if the schedule has no further one."""
    disabled_reason: str | None = None
    failures_in_row: int = 0
    run_count: int = 0
    error_count: int = 0
    missed_count: int = 0
    skipped_count: int = 0
    late_count: int = 0
    last_run_at: int | None = None
    last_status: RunStatus | None = None

    def to_json(self, next_runs: Sequence[int]) -> dict[str, Any]:
        """Return the job as the API shows it."""
        return {
            "id": self.id,
            **self.body.to_json(),
            "declared": self.declared_by is not None,
            "disabledReason": self.disabled_reason,
            "runCount": self.run_count,
            "errorCount": self.error_count,
            "missedCount": self.missed_count,
            "skippedCount": self.skipped_count,
            "lateCount": self.late_count,
            "lastRun": _instant(self.last_run_at),
            "lastStatus": None if self.last_status is None else self.last_status.value,
            "nextRun": _instant(self.next_at),
            "nextRuns": [format_ms(tick) for tick in next_runs],
            "createdAt": format_ms(self.created_at),
            "updatedAt": format_ms(self.updated_at),
        }


@attrs.frozen(kw_only=True)
class Run:
    """One execution of a job. Instants are milliseconds since the epoch."""

    id: str
    job_id: str
    scheduled_for: int
    trigger: RunTrigger
    status: RunStatus
    attempt: int
    """Of its attempts the last one, from 1; 0 before the first."""
    started_at: int | None = None
    """When that attempt began."""
    finished_at: int | None = None
    output: str | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the run as the API shows it."""
        return {
            "id": self.id,
            "jobId": self.job_id,
            "trigger": self.trigger.value,
            "scheduledFor": format_ms(self.scheduled_for),
            "startedAt": _instant(self.started_at),
            "finishedAt": _instant(self.finished_at),
            "status": self.status.value,
            "attempt": self.attempt,
            "output": self.output,
            "error": self.error,
        }

    def to_event(self, job_name: str) -> dict[str, Any]:
        """Return what the event of its end tells."""
        shown = self.to_json()
        shown["runId"] = shown.pop("id")
        return {**shown, "jobName": job_name}


@attrs.frozen(kw_only=True)
class Claimed:
    """An attempt of a run that this daemon is to make."""

    run: Run
    body: JobBody

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of a run: the tick's, or for a manual run its own."""
        run = self.run
        if run.trigger is RunTrigger.SCHEDULED:
            return f"cron:{run.job_id}:{format_ms(run.scheduled_for)}"
        return f"cron:{run.job_id}:{run.id}"

    @property
    def kind(self) -> ActionKind:
        """What it does."""
        return self.body.action.kind


@attrs.frozen(kw_only=True)
class Outcome:
    """How one attempt ended. Never an exception: whatever a service does is expected."""

    status: RunStatus
    """succeeded, failed or timed_out."""
    output: str | None = None
    """At most `MAX_OUTPUT` bytes in UTF-8."""
    error: str | None = None


def _instant(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else format_ms(milliseconds)
