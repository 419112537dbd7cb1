"""How a worker tells of its cron: as its contract names it, in the transaction that ends the run."""

from econeura_daemon.core.clock import format_ms
from econeura_daemon.cron import Run, RunStatus, Told

SOURCE = "workers"
EXECUTED, ERROR = "workers.cron_executed", "workers.error_occurred"

_RAN = {RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.UNKNOWN}


def told_by_a_worker(worker_id: str, run: Run, _job_name: str) -> list[Told]:
    """Return the events of a run that came to its end; one that was skipped or missed was not executed."""
    if run.status not in _RAN:
        return []
    started = run.started_at
    executed = {
        "jobId": run.job_id,
        "runId": run.id,
        "status": run.status.value,
        "startedAt": None if started is None else format_ms(started),
        "durationMs": 0 if started is None or run.finished_at is None else run.finished_at - started,
        "workerId": worker_id,
    }
    told: list[Told] = [(EXECUTED, executed, SOURCE)]
    if run.status is not RunStatus.SUCCEEDED:
        error = {
            "operation": "cron",
            "jobId": run.job_id,
            "error": run.error or run.status.value,
            "workerId": worker_id,
        }
        told.append((ERROR, error, SOURCE))
    return told
