"""What of the settings holds for a workers service, which has its own state directory, address and store.

One configuration may serve the daemon and its workers: ``[worker]`` says where they differ, all else (webhooks, cron,
limits, log) is read as it stands.
"""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import attrs

from econeura_daemon.core.errors import Flaw, SettingsError
from econeura_daemon.core.settings import Settings, StorageSettings
from econeura_daemon.worker.tasks import own_jobs

EVERYWHERE = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
"""The one subscription is the configuration's: its daemon may be anywhere."""


def effective(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return the settings of the worker's own process. Raises `SettingsError`."""
    worker = settings.worker
    flaws = []
    if not worker.mail:
        flaws.append(
            Flaw(
                "worker.mail",
                "is not set: name a Maildir, an mbox file or a folder of .eml files, here or by --mail",
            )
        )
    if settings.webhooks.secret is None:
        flaws.append(
            Flaw(
                "webhooks.secret",
                "is not set (WEBHOOK_SECRET): the daemon takes what happens here only signed with its own",
            )
        )
    try:
        own_jobs(worker.jobs, worker.time_zone)
    except SettingsError as error:
        flaws += error.flaws
    if flaws:
        raise SettingsError(flaws, "A workers service cannot be started")
    beside = str(Path(settings.daemon.state_dir).with_name("econeura-worker"))
    state_dir = worker.state_dir or environ.get("STATE_DIRECTORY", "").partition(":")[0] or beside
    state = str(Path(state_dir).expanduser().resolve())
    return attrs.evolve(
        settings,
        daemon=attrs.evolve(settings.daemon, state_dir=state),
        http=attrs.evolve(settings.http, bind=(worker.bind,), tls_certificate=None, tls_key=None),
        storage=StorageSettings(url=f"sqlite:///{state}/econeura.db"),
        webhooks=attrs.evolve(settings.webhooks, allowed_networks=EVERYWHERE),
        discovery=attrs.evolve(settings.discovery, enabled=False),
        mesh={},
        services=(),
        cron=attrs.evolve(settings.cron, jobs=()),
        worker=attrs.evolve(worker, state_dir=state),
    )
