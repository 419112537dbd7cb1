"""Backups are whole, taken while others write, and restored without losing what they replace."""

import os
import sqlite3
import sys

import pytest
import sqlalchemy as sa
import trio

from econeura_daemon.core.errors import (
    ConflictError,
    StateDirectoryHeldError,
    StoreCorruptError,
    StoreTooNewError,
    StoreUnavailableError,
)
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage import open_store
from econeura_daemon.storage.backup import backup, check, check_file, migrate, restore
from econeura_daemon.storage.migrations import NEWEST
from econeura_daemon.storage.tables import meta
from tests.storage.works import keys, put

SETTINGS = StorageSettings()

BACKUP_PROGRAM = """
import sys
from pathlib import Path
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage.backup import backup
print(backup(StorageSettings(), Path(sys.argv[1]), Path(sys.argv[2])))
"""

DYING_PROGRAM = """
import os, sqlite3, sys
driver = sqlite3.connect(sys.argv[1], isolation_level=None)
driver.execute("PRAGMA journal_mode=WAL")
driver.execute("INSERT INTO meta VALUES ('b', 'v')")
os._exit(0)
"""


async def fill(folder, *names, settings=SETTINGS):
    async with open_store(settings, folder) as store:
        for name in names:
            await store.transact(put(name))


async def stored(folder, settings=SETTINGS):
    async with open_store(settings, folder) as store:
        return await store.read(keys)


async def test_a_backup_taken_while_a_daemon_writes_is_whole_and_restores(tmp_path):
    async with open_store(SETTINGS, tmp_path) as store:
        written = 0
        stop = False

        async def write():
            nonlocal written
            while not stop:
                name = f"{written:06}"

                def both(connection, name=name):
                    put(name + "-a")(connection)
                    put(name + "-b")(connection)

                await store.transact(both)
                written += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            sizes = []
            for number in range(3):
                while written < 50 * (number + 1):
                    await trio.lowlevel.checkpoint()
                # From another process, as the command line does it.
                target = tmp_path / f"backup-{number}.db"
                done = await trio.run_process(
                    [
                        sys.executable, "-c", BACKUP_PROGRAM, str(tmp_path), str(target),
                    ],
                    capture_stdout=True,
                )  # fmt: skip
                sizes.append(int(done.stdout))
            stop = True
        assert sizes == [(tmp_path / f"backup-{number}.db").stat().st_size for number in range(3)]
    counts = []
    for number in range(3):
        target = tmp_path / f"backup-{number}.db"
        assert check_file(target).flaws == ()
        assert target.stat().st_mode & 0o777 == 0o600
        with sqlite3.connect(target) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            names = [name for (name,) in copy.execute("SELECT key FROM meta ORDER BY key")]
        copy.close()
        assert len(names) % 2 == 0  # no half of a transaction
        assert len(names) >= 100 * (number + 1)
        counts.append(len(names))
    kept = restore(SETTINGS, tmp_path, tmp_path / "backup-0.db")
    assert len(await stored(tmp_path)) == counts[0]
    with sqlite3.connect(kept) as replaced:
        assert replaced.execute("SELECT count(*) FROM meta").fetchone() == (2 * written,)
    replaced.close()


async def test_a_backup_overwrites_nothing_and_leaves_no_partial_file(tmp_path):
    await fill(tmp_path, "a")
    target = tmp_path / "there"
    target.write_text("precious")
    with pytest.raises(ConflictError, match="exists already"):
        backup(SETTINGS, tmp_path, target)
    assert target.read_text() == "precious"
    with pytest.raises(StoreUnavailableError, match="no file"):
        backup(SETTINGS, tmp_path / "elsewhere", tmp_path / "new")
    with pytest.raises(StoreUnavailableError, match="cannot be written"):
        backup(SETTINGS, tmp_path, tmp_path / "no-folder" / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["econeura.db", "econeura.db.lock", "there"]


async def test_restore_and_migrate_are_refused_while_a_daemon_runs(tmp_path):
    await fill(tmp_path, "a")
    backup(SETTINGS, tmp_path, tmp_path / "copy")
    async with open_store(SETTINGS, tmp_path) as store:
        with pytest.raises(StateDirectoryHeldError, match="in use"):
            restore(SETTINGS, tmp_path, tmp_path / "copy")
        with pytest.raises(StateDirectoryHeldError, match="in use"):
            migrate(SETTINGS, tmp_path)
        await store.transact(put("b"))
    assert await stored(tmp_path) == ["a", "b"]


async def test_restore_replaces_a_damaged_file_and_keeps_it(tmp_path):
    await fill(tmp_path, "a")
    backup(SETTINGS, tmp_path, tmp_path / "copy")
    database = tmp_path / "econeura.db"
    database.write_bytes(b"not a database " * 1000)
    kept = restore(SETTINGS, tmp_path, tmp_path / "copy")
    assert kept.read_bytes() == b"not a database " * 1000
    assert await stored(tmp_path) == ["a"]
    assert restore(SETTINGS, tmp_path, tmp_path / "copy").name == "econeura.db.replaced-2"


async def test_restoring_where_nothing_was_keeps_nothing(tmp_path):
    await fill(tmp_path, "a")
    backup(SETTINGS, tmp_path, tmp_path / "copy")
    (tmp_path / "new").mkdir()
    assert restore(SETTINGS, tmp_path / "new", tmp_path / "copy") is None
    assert await stored(tmp_path / "new") == ["a"]


async def test_a_wal_that_was_not_checkpointed_goes_with_the_replaced_file_and_never_meets_the_new(tmp_path):
    await fill(tmp_path, "a")
    backup(SETTINGS, tmp_path, tmp_path / "copy")
    # A daemon that died: committed, never checkpointed.
    await trio.run_process(
        [
            sys.executable, "-c", DYING_PROGRAM, str(tmp_path / "econeura.db"),
        ],
    )  # fmt: skip
    assert (tmp_path / "econeura.db-wal").stat().st_size > 0
    kept = restore(SETTINGS, tmp_path, tmp_path / "copy")
    assert not (tmp_path / "econeura.db-wal").exists()
    assert await stored(tmp_path) == ["a"]
    with sqlite3.connect(kept) as replaced:
        assert replaced.execute("SELECT key FROM meta ORDER BY key").fetchall() == [("a",), ("b",)]
    replaced.close()


async def test_the_wal_of_a_file_that_cannot_be_read_is_kept_with_it(tmp_path):
    await fill(tmp_path, "a")
    backup(SETTINGS, tmp_path, tmp_path / "copy")
    await trio.run_process([sys.executable, "-c", DYING_PROGRAM, str(tmp_path / "econeura.db")])
    wal = (tmp_path / "econeura.db-wal").read_bytes()
    (tmp_path / "econeura.db").write_bytes(b"garbage " * 4000)
    kept = restore(SETTINGS, tmp_path, tmp_path / "copy")
    assert kept.with_name(kept.name + "-wal").read_bytes() == wal
    assert await stored(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(b"garbage " * 2000, StoreCorruptError, id="garbage"),
        pytest.param(b"", StoreUnavailableError, id="empty"),
    ],
)
async def test_what_is_no_backup_is_not_restored(tmp_path, content, error):
    await fill(tmp_path, "a")
    (tmp_path / "copy").write_bytes(content)
    with pytest.raises(error):
        restore(SETTINGS, tmp_path, tmp_path / "copy")
    assert await stored(tmp_path) == ["a"]


async def test_a_damaged_or_too_new_backup_is_not_restored(tmp_path):
    await fill(tmp_path, *(f"{number:04}" for number in range(500)))
    backup(SETTINGS, tmp_path, tmp_path / "copy")
    damaged = bytearray((tmp_path / "copy").read_bytes())
    for page in range(2, len(damaged) // 4096):
        damaged[4096 * page : 4096 * page + 64] = b"\xff" * 64
    (tmp_path / "damaged").write_bytes(damaged)
    with pytest.raises(StoreCorruptError, match="damaged"):
        restore(SETTINGS, tmp_path, tmp_path / "damaged")
    with sqlite3.connect(tmp_path / "copy") as copy:
        copy.execute("INSERT INTO schema_migrations VALUES (999, 'from the future', 0)")
    copy.close()
    with pytest.raises(StoreTooNewError, match="999"):
        restore(SETTINGS, tmp_path, tmp_path / "copy")
    assert len(await stored(tmp_path)) == 500


async def test_check_tells_what_is_damaged(tmp_path):
    await fill(tmp_path, *(f"{number:04}" for number in range(500)))
    assert check(SETTINGS, tmp_path).flaws == ()
    database = tmp_path / "econeura.db"
    with database.open("r+b") as file:
        file.seek(-2048, os.SEEK_END)
        file.write(b"\xff" * 2048)
    report = check(SETTINGS, tmp_path)
    assert report.flaws
    assert report.version == report.newest == NEWEST


async def test_migrate_creates_the_schema_once(tmp_path):
    assert migrate(SETTINGS, tmp_path) == (0, NEWEST)
    assert migrate(SETTINGS, tmp_path) == (NEWEST, NEWEST)
    assert check(SETTINGS, tmp_path).version == NEWEST


def foreign(folder):
    """Give the folder to another user, where we are root and can; return its owner."""
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    return folder.stat().st_uid, folder.stat().st_gid


def owners(folder):
    return {path.name: (path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}


async def test_what_root_leaves_in_the_daemons_folder_is_the_daemons(tmp_path):
    folder = tmp_path / "state"
    owner = foreign(folder)
    migrate(SETTINGS, folder)
    async with open_store(SETTINGS, folder) as store:
        await store.transact(put("a"))
        names = ["econeura.db", "econeura.db-shm", "econeura.db-wal", "econeura.db.lock"]
        assert owners(folder) == dict.fromkeys(names, owner)
    backup(SETTINGS, folder, tmp_path / "copy")
    kept = restore(SETTINGS, folder, tmp_path / "copy")
    assert {"econeura.db", "econeura.db.lock", kept.name} <= owners(folder).keys()
    assert set(owners(folder).values()) == {owner}
    (folder / "econeura.db").unlink()
    restore(SETTINGS, folder, tmp_path / "copy")
    assert owners(folder)["econeura.db"] == owner


async def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "econeura.db.lock").symlink_to("precious")
    with pytest.raises(StoreUnavailableError, match="cannot be locked"):
        migrate(SETTINGS, tmp_path)
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.postgres
async def test_postgresql_is_checked_migrated_dumped_and_restored(postgres_url, tmp_path):
    settings = StorageSettings(url=postgres_url)
    assert check(settings, tmp_path).version == 0
    assert migrate(settings, tmp_path) == (0, NEWEST)
    assert migrate(settings, tmp_path) == (NEWEST, NEWEST)
    await fill(tmp_path, "a", settings=settings)
    assert check(settings, tmp_path).flaws == ()
    assert backup(settings, tmp_path, tmp_path / "dump") > 0
    await fill(tmp_path, "b", settings=settings)
    async with open_store(settings, tmp_path) as store:
        with pytest.raises(StateDirectoryHeldError, match="connected"):
            restore(settings, tmp_path, tmp_path / "dump")
        assert await store.read(keys) == ["a", "b"]
        await store.transact(lambda connection: connection.execute(sa.delete(meta)))
    assert restore(settings, tmp_path, tmp_path / "dump") is None
    assert await stored(tmp_path, settings) == ["a"]


@pytest.mark.postgres
async def test_a_missing_pg_dump_is_said_in_words(postgres_url, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreUnavailableError, match="pg_dump is not installed"):
        backup(StorageSettings(url=postgres_url), tmp_path, tmp_path / "dump")
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - the whole point of a look
