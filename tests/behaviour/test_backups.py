"""The task that backs the store up while it is in use."""

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import trio

from econeura_daemon.core.errors import StoreError
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage import open_store
from econeura_daemon.storage.backup import check
from econeura_daemon.supervision.backups import KEPT, back_up


class Nights:
    """A clock that is a day further each time."""

    def __init__(self):
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self):
        self._now += timedelta(days=1)
        return self._now


async def test_a_backup_is_whole_and_the_last_week_is_kept(tmp_path):
    settings, clock = StorageSettings(), Nights()
    with trio.fail_after(60):
        async with open_store(settings, tmp_path):
            for _ in range(KEPT + 2):
                said = await back_up(settings, tmp_path, clock)
    found = sorted(path.name for path in (tmp_path / "backups").iterdir())
    assert len(found) == KEPT
    assert [name[:17] for name in (found[0], found[-1])] == ["econeura-20260104", "econeura-20260110"]
    assert said.startswith(f"wrote {tmp_path / 'backups' / found[-1]}, ")
    copy = StorageSettings(url=f"sqlite:///{tmp_path / 'backups' / found[-1]}")
    assert not check(copy, tmp_path).flaws


async def test_a_backup_that_fails_leaves_the_older_ones_alone(tmp_path):
    settings, clock = StorageSettings(), Nights()
    with trio.fail_after(60):
        async with open_store(settings, tmp_path):
            for _ in range(KEPT):
                await back_up(settings, tmp_path, clock)
        (tmp_path / "econeura.db").write_bytes(b"no database" * 1000)
        with pytest.raises(StoreError):
            await back_up(settings, tmp_path, clock)
    assert len(list((tmp_path / "backups").iterdir())) == KEPT


async def test_a_backup_that_waits_for_the_disk_holds_up_no_drain(tmp_path):
    settings = StorageSettings()
    async with open_store(settings, tmp_path):
        pass
    (tmp_path / "econeura.db").unlink()
    os.mkfifo(tmp_path / "econeura.db")  # whoever opens it waits for somebody at the other end
    with trio.fail_after(10):
        with trio.move_on_after(0.2) as scope:
            await back_up(settings, tmp_path, Nights())
        assert scope.cancelled_caught
    with suppress(OSError):  # let the thread go
        os.close(os.open(tmp_path / "econeura.db", os.O_RDWR | os.O_NONBLOCK))
