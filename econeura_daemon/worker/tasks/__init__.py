"""The six cron jobs of the workers service, and what each of them does."""

from econeura_daemon.worker.tasks.composing import make_tasks
from econeura_daemon.worker.tasks.declared import own_jobs
from econeura_daemon.worker.tasks.sync import MailSync
from econeura_daemon.worker.tasks.told import told_by_a_worker

__all__ = ["MailSync", "make_tasks", "own_jobs", "told_by_a_worker"]
