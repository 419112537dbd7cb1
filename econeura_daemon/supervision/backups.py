"""The task ``backup`` of cron: a copy of the store beside it, and the oldest ones removed."""

from functools import partial
from pathlib import Path

import trio

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage.backup import backup

FOLDER = "backups"
KEPT = 7
"""Backups, the newest: a week of nightly ones."""


async def back_up(settings: StorageSettings, state_dir: Path, clock: Clock) -> str:
    """Write a checked copy of the store, and return where it is; the daemon goes on meanwhile.

    Raises a `StoreError`. A copy that fails leaves the older ones alone. One that is cancelled, by the job's timeout or
    a drain, is not waited for: it comes to its end by itself, or without a name with the process.
    """
    name = f"econeura-{clock.now():%Y%m%dT%H%M%S.%fZ}.backup"
    return await trio.to_thread.run_sync(partial(_write, settings, state_dir, name), abandon_on_cancel=True)


def _write(settings: StorageSettings, state_dir: Path, name: str) -> str:
    folder = state_dir / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    size = backup(settings, state_dir, folder / name)
    old = sorted(folder.glob("econeura-*.backup"))[:-KEPT]
    for one in old:
        one.unlink(missing_ok=True)
    return f"wrote {folder / name}, {size} bytes; removed {len(old)} older"
