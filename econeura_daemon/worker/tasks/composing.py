"""The tasks by their names, made of what the worker has."""

from pathlib import Path

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings_worker import WorkerSettings
from econeura_daemon.cron import Tasks
from econeura_daemon.cron.zones import zone_named
from econeura_daemon.events import EventLog
from econeura_daemon.storage import Store
from econeura_daemon.worker.mails import Mails
from econeura_daemon.worker.tasks import declared as names
from econeura_daemon.worker.tasks.exports import WeeklyExport
from econeura_daemon.worker.tasks.health import HealthCheck
from econeura_daemon.worker.tasks.mails import EmailProcessing
from econeura_daemon.worker.tasks.reports import DailyReports
from econeura_daemon.worker.tasks.sync import MailSync


def make_tasks(
    *,
    settings: WorkerSettings,
    clock: Clock,
    state_dir: Path,
    store: Store,
    events: EventLog,
    mails: Mails,
    sync: MailSync,
) -> Tasks:
    """Return five of the six tasks; ``cleanup`` is that of every process with a store of ours."""
    jobs, zone = settings.jobs, zone_named(settings.time_zone)
    worker_id = mails.worker_id
    return {
        names.EMAIL_PROCESSING: EmailProcessing(
            mails,
            organization_id=jobs.organization_id,
            batch=jobs.batch,
            at_once=settings.processes,
        ),
        names.GRAPH_SYNC: sync,
        names.HEALTH_CHECK: HealthCheck(
            mail_store=mails.store,
            sync=sync,
            processors=mails.processors,
            store=store,
            state_dir=state_dir,
            min_free_bytes=jobs.min_free_bytes,
            daemon_url=settings.daemon_url,
        ),
        names.DAILY_REPORTS: DailyReports(
            store=store,
            events=events,
            state_dir=state_dir,
            zone=zone,
            worker_id=worker_id,
            kept=jobs.reports_kept,
            clock=clock,
        ),
        names.WEEKLY_EXPORT: WeeklyExport(
            store=store, state_dir=state_dir, zone=zone, worker_id=worker_id, kept=jobs.exports_kept
        ),
    }
