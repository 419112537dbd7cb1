"""The worker's process."""

from collections.abc import Callable, MutableMapping
from functools import partial

from econeura_daemon.core.settings import Settings
from econeura_daemon.core.settings_sources import load_settings
from econeura_daemon.supervision import process
from econeura_daemon.worker.compose import open_worker
from econeura_daemon.worker.effective import effective

Change = Callable[[Settings], Settings]
"""Lays what the command line says over what was read."""


def run(config: str | None, change: Change, environ: MutableMapping[str, str] | None = None) -> int:
    """Run a worker until it is told to stop; return the exit code."""
    return process.run(partial(_load, config, change), open_worker, environ)


def _load(config: str | None, change: Change, environ: MutableMapping[str, str]) -> Settings:
    return effective(change(load_settings(config, environ).settings), environ)
