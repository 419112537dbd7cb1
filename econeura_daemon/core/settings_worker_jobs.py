"""What can be set of the workers service's own cron jobs: ``[worker.jobs]``."""

import attrs

from econeura_daemon.core.validators import at_least, between, length, matching

_schedule = length(1, 512)
MIB = 1024 * 1024


@attrs.frozen(kw_only=True)
class WorkerJobsSettings:
    """When the six jobs are due, in ``worker.time_zone``, and how much they do. They are switched off by the API."""

    email_processing: str = attrs.field(default="*/5 * * * *", validator=_schedule)
    graph_sync: str = attrs.field(default="*/15 * * * *", validator=_schedule)
    cleanup: str = attrs.field(default="0 * * * *", validator=_schedule)
    health_check: str = attrs.field(default="* * * * *", validator=_schedule)
    daily_reports: str = attrs.field(default="0 6 * * *", validator=_schedule)
    weekly_export: str = attrs.field(default="0 2 * * 0", validator=_schedule)
    organization_id: str = attrs.field(
        default="default", validator=matching(r"[\x21-\x7e]{1,128}", "1 to 128 printable ASCII characters")
    )
    """For whom mails are processed that nobody asked for."""
    batch: int = attrs.field(default=200, validator=between(1, 10_000))
    """Mails that one run of ``email_processing`` processes at most."""
    min_free_bytes: int = attrs.field(default=100 * MIB, validator=at_least(0))
    """On the disk of the state directory; with less ``health_check`` fails."""
    reports_kept: int = attrs.field(default=400, validator=between(1, 100_000))
    """Daily reports, the newest."""
    exports_kept: int = attrs.field(default=53, validator=between(1, 100_000))
    """Weekly exports, the newest."""


SIX_JOBS = WorkerJobsSettings()
