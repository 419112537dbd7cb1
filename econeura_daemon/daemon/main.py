"""The daemon's process."""

from collections.abc import MutableMapping
from functools import partial

from econeura_daemon.core.settings import Settings
from econeura_daemon.core.settings_sources import load_settings
from econeura_daemon.cron import schedule_flaws
from econeura_daemon.daemon.compose import open_daemon
from econeura_daemon.supervision import process


def run(config: str | None, environ: MutableMapping[str, str] | None = None) -> int:
    """Run a daemon until it is told to stop; return the exit code.

    ``config``: the file that was named on the command line.
    """
    return process.run(partial(_load, config), open_daemon, environ)


def _load(config: str | None, environ: MutableMapping[str, str]) -> Settings:
    return load_settings(config, environ, schedule_flaws).settings
