"""Whatever befalls the file: a clear refusal, nothing half stored, and recovery when the cause is gone."""

import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sa
import trio
import trio.testing

from econeura_daemon.core.errors import (
    OutcomeUnknownError,
    StateDirectoryHeldError,
    StoreCorruptError,
    StoreFullError,
    StoreTooNewError,
    StoreUnavailableError,
)
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage import open_store
from econeura_daemon.storage.opening import prepare_sqlite
from econeura_daemon.storage.sqlite import SqliteEngine
from econeura_daemon.storage.works import Submission
from tests.storage.test_conformance import Gate, swallow
from tests.storage.works import keys, put

BIG = "x" * 100_000


@contextmanager
def unprivileged():
    """Give up root's right to write everywhere, for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def until_well(store, seconds=10):
    """Wait until the store says that it is well; it looks by itself once a second."""
    with trio.fail_after(seconds):
        while store.statistics().trouble is not None:  # noqa: ASYNC110 - another thread's doing
            await trio.sleep(0.05)


async def fill_up(store, call):
    """Store big rows until the store refuses; return the names that were taken."""
    taken = []
    for number in range(10_000):
        try:
            taken.append(await call(put(f"{number:04}", BIG)))
        except StoreFullError as error:
            return taken, error
    raise AssertionError("the disk never filled up")


class TmpfsDisk:
    """A disk of 4 MiB, half of it taken."""

    def __init__(self, folder):
        self.folder = folder
        self._ballast = folder / "ballast"

    async def shrink(self, _store):
        self._ballast.write_bytes(b"x" * 2_000_000)

    async def free(self, _store):
        self._ballast.unlink()


class CountedDisk:
    """Where nothing can be mounted, SQLite is told to count pages; the result code is the same."""

    def __init__(self, folder):
        self.folder = folder

    async def shrink(self, store, pages=500):
        await store.transact(
            lambda connection: connection.driver.execute(f"PRAGMA max_page_count = {pages}").fetchall()
        )

    async def free(self, store):
        await self.shrink(store, 1_000_000)


@pytest.fixture
def small_disk(tmp_path):
    """A disk that is soon full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "econeura-test", folder], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        yield TmpfsDisk(folder)
        subprocess.run(["umount", folder], check=True)
    else:
        yield CountedDisk(folder)


async def test_a_full_disk_is_said_and_freed_space_is_noticed(small_disk):
    async with open_store(StorageSettings(), small_disk.folder) as store:
        await small_disk.shrink(store)
        taken, error = await fill_up(store, store.ingest)
        assert "no space is left" in str(error)
        assert str(small_disk.folder / "econeura.db") in str(error)
        assert "no space is left" in store.statistics().trouble
        assert await store.read(keys) == taken  # what was acknowledged is there, and nothing else
        await small_disk.free(store)
        await until_well(store)
        await store.ingest(put("afterwards", BIG))
        assert await store.read(keys) == [*taken, "afterwards"]
    with closing(sqlite3.connect(small_disk.folder / "econeura.db")) as driver:
        assert driver.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_when_a_group_fills_the_disk_every_answer_is_true(small_disk):
    results = {}

    async def call(name):
        try:
            await store.ingest(put(name, BIG))
        except StoreFullError:
            results[name] = False
        else:
            results[name] = True

    async with open_store(StorageSettings(), small_disk.folder) as store:
        await small_disk.shrink(store)
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(call, f"{number:04}")
        assert await store.read(keys) == sorted(name for name, taken in results.items() if taken)
    assert len(results) == 100
    assert not all(results.values())


async def test_a_file_size_limit_is_said_and_its_end_is_noticed(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with open_store(StorageSettings(), tmp_path) as store:
        await store.transact(put("before"))
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
            with pytest.raises(StoreUnavailableError, match="file size limit"):
                await store.transact(put("a", BIG))
            assert "file size limit" in store.statistics().trouble
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await until_well(store)
        await store.transact(put("b", BIG))
        assert await store.read(keys) == ["b", "before"]


async def test_a_database_at_its_page_limit_refuses_the_one_work_that_does_not_fit(tmp_path):
    engine = SqliteEngine(tmp_path / "a.db")
    prepare_sqlite(engine, tmp_path / "a.db")
    driver = engine.open().driver
    (pages,) = driver.execute("PRAGMA page_count").fetchone()
    driver.execute(f"PRAGMA max_page_count = {pages + 10}")
    group = [Submission(work) for work in (put("a"), put("big", BIG), put("c"))]
    engine.commit(group)
    assert [type(submission.error) for submission in group] == [type(None), StoreFullError, type(None)]
    assert keys(engine.open()) == ["a", "c"]
    engine.open().close_results()
    engine.close()


async def test_when_sqlite_rolls_back_everything_by_itself_the_others_run_again(tmp_path):
    def rolled_back(connection):
        put("b")(connection)
        connection.driver.execute("ROLLBACK")  # as SQLite does on some errors
        raise sqlite3.OperationalError("disk I/O error")

    engine = SqliteEngine(tmp_path / "a.db")
    prepare_sqlite(engine, tmp_path / "a.db")
    group = [Submission(work) for work in (put("a"), rolled_back, put("c"))]
    engine.commit(group)
    assert [submission.value for submission in group] == ["a", None, "c"]
    assert [type(submission.error) for submission in group] == [
        type(None),
        sqlite3.OperationalError,
        type(None),
    ]
    assert keys(engine.open()) == ["a", "c"]
    engine.open().close_results()
    engine.close()


async def test_a_commit_that_fails_fails_its_whole_group_and_nothing_else(tmp_path):
    async with open_store(StorageSettings(), tmp_path) as store:
        await store.transact(put("before"))

        def deferred(connection):
            connection.driver.execute(
                "CREATE TABLE child (parent REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)"
            )
            connection.driver.execute("CREATE TABLE parents (id PRIMARY KEY)")

        await store.transact(deferred)
        store._engine.open().driver.execute(
            "PRAGMA foreign_keys = ON"
        )  # the writer rests; it is a test of COMMIT
        results = []

        def orphan(connection):
            connection.driver.execute("INSERT INTO child VALUES (1)")

        async with trio.open_nursery() as nursery:
            gate = Gate()
            nursery.start_soon(store.transact, gate.work)
            await gate.reached.wait()
            for work in (put("a"), orphan, put("b")):
                nursery.start_soon(swallow, store, work, results)
                await trio.testing.wait_all_tasks_blocked()
            gate.open()
        assert len(results) == 3
        assert {type(result) for result in results} == {sa.exc.IntegrityError}
        assert len({id(result) for result in results}) == 3  # each caller raises an error of its own
        await store.transact(put("c"))
        assert await store.read(keys) == ["before", "c"]


async def test_beyond_max_bytes_ingest_is_refused_and_the_daemons_own_works_go_on(tmp_path):
    async with open_store(StorageSettings(max_bytes=1_000_000), tmp_path) as store:
        taken, error = await fill_up(store, store.ingest)
        assert 5 < len(taken) < 15
        assert "storage.max_bytes" in str(error)
        assert "storage.max_bytes" in store.statistics().trouble
        await store.transact(put("outcome", BIG))
        assert "storage.max_bytes" in store.statistics().trouble

        def clean(connection):
            connection.driver.execute("DELETE FROM meta WHERE key LIKE '0%'")

        await store.transact(clean)
        assert store.statistics().trouble is None
        await store.ingest(put("afterwards"))


async def test_a_read_only_folder_is_refused_in_words(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o555)
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(parent.stat().st_mode | 0o011)
    with unprivileged(), pytest.raises(StoreUnavailableError, match=r"cannot be locked.*owner and mode"):
        async with open_store(StorageSettings(), folder):
            pass


async def test_a_missing_folder_is_refused_in_words(tmp_path):
    with pytest.raises(StoreUnavailableError, match="does not exist: create it"):
        async with open_store(StorageSettings(), tmp_path / "nowhere"):
            pass


async def test_a_database_that_turns_read_only_refuses_until_it_is_writable_again(tmp_path):
    async with open_store(StorageSettings(), tmp_path) as store:
        await store.transact(put("a"))

        def query_only(connection):
            connection.driver.execute(
                "PRAGMA query_only = ON"
            )  # stands for a remount; the result code is the same

        await store.transact(query_only)
        with pytest.raises(StoreUnavailableError, match="cannot be written"):
            await store.transact(put("b"))
        assert "cannot be written" in store.statistics().trouble
        await until_well(store)  # a doubted connection is opened anew
        await store.transact(put("c"))
        assert await store.read(keys) == ["a", "c"]


async def test_a_lock_of_another_program_is_said_and_its_end_is_noticed(tmp_path):
    async with open_store(StorageSettings(), tmp_path) as store:
        with closing(sqlite3.connect(tmp_path / "econeura.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="another program holds its lock"):
                await store.transact(put("a"))
            assert "another program" in store.statistics().trouble
            other.execute("ROLLBACK")
        await until_well(store)
        await store.transact(put("b"))
        assert await store.read(keys) == ["b"]


HOLDING_PROGRAM = """
import os
import sys
from pathlib import Path
import trio
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage import open_store
async def main():
    async with open_store(StorageSettings(), Path(sys.argv[1])):
        os.write(1, b"open\\n")
        await trio.to_thread.run_sync(sys.stdin.read)
trio.run(main)
"""


async def test_two_processes_never_open_one_database_and_a_killed_one_leaves_no_lock(tmp_path):
    holder = await trio.lowlevel.open_process(
        [sys.executable, "-c", HOLDING_PROGRAM, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        with trio.fail_after(30):
            assert await holder.stdout.receive_some() == b"open\n"
        with pytest.raises(StateDirectoryHeldError, match=f"in use by process {holder.pid}"):
            async with open_store(StorageSettings(), tmp_path):
                pass
    finally:
        holder.kill()
        await holder.wait()
        await holder.stdin.aclose()
        await holder.stdout.aclose()
    async with open_store(StorageSettings(), tmp_path) as store:
        await store.transact(put("a"))


async def test_one_process_does_not_open_a_database_twice_either(tmp_path):
    async with open_store(StorageSettings(), tmp_path):
        with pytest.raises(StateDirectoryHeldError, match=f"process {os.getpid()}"):
            async with open_store(StorageSettings(), tmp_path):
                pass


async def test_garbage_is_no_database(tmp_path):
    (tmp_path / "econeura.db").write_bytes(b"garbage " * 4000)
    with pytest.raises(StoreCorruptError, match="no SQLite database"):
        async with open_store(StorageSettings(), tmp_path):
            pass
    assert (tmp_path / "econeura.db").read_bytes() == b"garbage " * 4000


async def test_a_truncated_file_is_refused(tmp_path):
    async with open_store(StorageSettings(), tmp_path) as store:
        for number in range(20):
            await store.transact(put(f"{number}", BIG))
    size = (tmp_path / "econeura.db").stat().st_size
    os.truncate(tmp_path / "econeura.db", size // 2 // 4096 * 4096)
    with pytest.raises(StoreCorruptError, match="damaged: stop the daemon and restore a backup"):
        async with open_store(StorageSettings(), tmp_path):
            pass


async def test_a_page_that_is_damaged_later_fails_who_meets_it_and_nobody_else(tmp_path):
    async with open_store(StorageSettings(), tmp_path) as store:
        for number in range(500):
            await store.transact(put(f"{number:04}", "v" * 500))
    with (tmp_path / "econeura.db").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 4096 * 4)
        file.write(b"\xff" * 4096 * 4)

    def scan(connection):
        return connection.driver.execute("SELECT sum(length(value)) FROM meta").fetchone()

    async with open_store(StorageSettings(), tmp_path) as store:
        for call in (store.transact, store.read):
            with pytest.raises(StoreCorruptError, match="damaged"):
                await call(scan)
        assert await store.transact(lambda connection: connection.driver.execute("SELECT 1").fetchone()) == (
            1,
        )


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    async with open_store(StorageSettings(), tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "econeura.db")) as driver, driver:
        driver.execute("INSERT INTO schema_migrations VALUES (7, 'from the future', 0)")
    with pytest.raises(StoreTooNewError, match=r"schema 7.*newer econeura-daemon"):
        async with open_store(StorageSettings(), tmp_path):
            pass


async def test_another_programs_database_is_left_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / "econeura.db")) as driver, driver:
        driver.execute("CREATE TABLE recipes (id)")
    with pytest.raises(StoreUnavailableError, match=r"another program \(recipes"):
        async with open_store(StorageSettings(), tmp_path):
            pass


async def test_paths_in_urls_are_relative_to_the_state_folder_unless_absolute(tmp_path):
    (tmp_path / "sub").mkdir()
    for url in ("sqlite:///sub/a?b%20#.db", f"sqlite:///{tmp_path}/sub/absolute.db"):
        async with open_store(StorageSettings(url=url), tmp_path) as store:
            await store.transact(put("a"))
            assert await store.read(keys) == ["a"]
    names = {path.name for path in (tmp_path / "sub").iterdir()}
    assert {"a?b%20#.db", "absolute.db"} <= names


async def test_only_the_owner_can_read_what_is_stored(tmp_path):
    async with open_store(StorageSettings(), tmp_path) as store:
        await store.transact(put("a"))
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes) == {f"econeura.db{end}" for end in ("", ".lock", "-wal", "-shm")}
    assert set(modes.values()) == {0o600}


async def test_leaving_the_block_leaves_one_file_that_is_complete(tmp_path):
    async with open_store(StorageSettings(), tmp_path) as store:
        await store.transact(put("a"))
        await store.read(keys)
    assert {path.name for path in tmp_path.iterdir()} == {"econeura.db", "econeura.db.lock"}


async def test_a_pause_is_used_for_a_checkpoint(tmp_path):
    async with open_store(StorageSettings(), tmp_path) as store:
        await store.transact(put("a", BIG))
        assert (tmp_path / "econeura.db").stat().st_size < len(BIG)
        with trio.fail_after(10):
            while (tmp_path / "econeura.db").stat().st_size < len(BIG):  # noqa: ASYNC110 - a file
                await trio.sleep(0.05)


async def test_the_wal_stays_small_under_load(tmp_path):
    async with open_store(StorageSettings(), tmp_path) as store:

        async def many(caller):
            for number in range(500):
                await store.transact(put(f"{caller}-{number}", "v" * 400))

        async with trio.open_nursery() as nursery:
            for caller in range(40):
                nursery.start_soon(many, caller)
        assert (tmp_path / "econeura.db-wal").stat().st_size < 40_000_000


async def test_a_bug_in_the_engine_leaves_the_outcome_unknown_and_the_writer_alive(
    tmp_path, monkeypatch, caplog
):
    async with open_store(StorageSettings(), tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(SqliteEngine, "commit", lambda _engine, _group: 1 // 0)
            with pytest.raises(OutcomeUnknownError, match="ZeroDivisionError"):
                await store.transact(put("a"))
        await until_well(store)
        await store.transact(put("b"))
        assert await store.read(keys) == ["b"]
    assert "is unknown" in caplog.text
