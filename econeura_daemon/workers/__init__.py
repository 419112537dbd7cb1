"""The integration with workers services: e-mail processing, its bulk jobs, and cron management through the mesh."""

from econeura_daemon.workers.bulks import BulkDone
from econeura_daemon.workers.calling import Asked, WorkersBusyError, WorkersFailedError
from econeura_daemon.workers.commands import ManageCron, ProcessBulk, ProcessEmail
from econeura_daemon.workers.crons import Managed
from econeura_daemon.workers.emails import Processed
from econeura_daemon.workers.model import BulkJob, Email, EmailStatus, JobStatus, Priority
from econeura_daemon.workers.opening import Workers, open_workers
from econeura_daemon.workers.waiting import NoTurnError

__all__ = [
    "Asked",
    "BulkDone",
    "BulkJob",
    "Email",
    "EmailStatus",
    "JobStatus",
    "ManageCron",
    "Managed",
    "NoTurnError",
    "Priority",
    "ProcessBulk",
    "ProcessEmail",
    "Processed",
    "Workers",
    "WorkersBusyError",
    "WorkersFailedError",
    "open_workers",
]
