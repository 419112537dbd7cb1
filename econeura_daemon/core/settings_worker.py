"""What can be set of the reference workers service: ``[worker]``."""

import attrs

from econeura_daemon.core.instances import ID
from econeura_daemon.core.settings_worker_jobs import SIX_JOBS, WorkerJobsSettings
from econeura_daemon.core.validators import between, choice, length, matching, optional

SECOND = 1000


@attrs.frozen(kw_only=True)
class WorkerSettings:
    """The reference workers service, which is a process of its own (``econeura-daemon worker``)."""

    daemon_url: str = attrs.field(
        default="http://127.0.0.1:3001", validator=matching(r"https?://[^/?#\s]+/?", "http://host:port")
    )
    """The daemon that it registers with and sends its webhooks to."""
    token: str | None = attrs.field(default=None, repr=False, validator=optional(length(1, 4096)))
    """With the scope ``publish``, where that daemon asks for one."""
    instance_id: str | None = attrs.field(default=None, validator=optional(matching(ID.pattern, "an id")))
    """As what it registers itself; none: made of its address."""
    bind: str = attrs.field(
        default="127.0.0.1:0",
        validator=matching(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):[0-9]{1,5}", "host:port or [IPv6]:port"),
    )
    """Where daemons reach it; that host is what it registers."""
    state_dir: str = ""
    """Its own; empty: ``$STATE_DIRECTORY``, else ``econeura-worker`` beside the daemon's."""
    mail: str = ""
    """Where the mails are: a Maildir, an mbox file or a folder of ``.eml`` files."""
    mail_kind: str = attrs.field(default="auto", validator=choice("auto", "maildir", "mbox", "eml"))
    rules: str = ""
    """The file of rules; empty: the one that is shipped."""
    processes: int = attrs.field(default=2, validator=between(1, 256))
    """Processes that read mails."""
    process_timeout_ms: int = attrs.field(default=30 * SECOND, validator=between(100, 600 * SECOND))
    """For one mail; a process that needs longer is ended and replaced."""
    smtp_host: str | None = attrs.field(default=None, validator=optional(length(1, 255)))
    """The mail server that mails are forwarded by; none: nothing is forwarded."""
    smtp_port: int = attrs.field(default=587, validator=between(1, 65535))
    smtp_security: str = attrs.field(default="starttls", validator=choice("starttls", "tls", "none"))
    smtp_sender: str | None = attrs.field(default=None, validator=optional(length(3, 254)))
    """Whom forwarded mails come from, and bounces go to."""
    smtp_user: str | None = attrs.field(default=None, validator=optional(length(1, 255)))
    smtp_password: str | None = attrs.field(default=None, repr=False, validator=optional(length(1, 1024)))
    time_zone: str = "UTC"
    """Of its cron jobs, of a day's report and of a week's export."""
    jobs: WorkerJobsSettings = SIX_JOBS
