"""Lost connections, stopped servers and other daemons: clear answers, nothing half stored, recovery by itself."""

import contextlib
import signal
import threading

import psycopg
import pytest
import sqlalchemy as sa
import trio
import trio.testing

from econeura_daemon.core.errors import OutcomeUnknownError, StoreFullError, StoreUnavailableError
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage import Hot, open_store
from econeura_daemon.storage.postgresql_connection import PostgresqlConnection
from econeura_daemon.storage.postgresql_errors import translate
from econeura_daemon.storage.tables import meta
from tests.storage.test_conformance import Gate, announce, swallow
from tests.storage.works import keys, put, put_core

pytestmark = pytest.mark.postgres

BACKEND = sa.text("SELECT pg_backend_pid()")


async def until(condition, seconds=20):
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what another thread does shows in the statistics
            await trio.sleep(0.05)


def kill(url, pid):
    """Terminate a backend, and return when it is gone."""
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)


async def test_a_backend_killed_in_the_middle_of_a_group_loses_nothing(postgres_database):
    """The commit was not sent: the group runs again on a new connection."""
    url = postgres_database.settings.url
    runs = []

    def killing(connection):
        put("killed")(connection)
        runs.append(connection.execute(BACKEND).scalar_one())
        if len(runs) == 1:
            kill(url, runs[0])

    async with postgres_database.open() as store:
        results = []
        async with trio.open_nursery() as nursery:
            gate = Gate()
            nursery.start_soon(store.transact, gate.work)
            await gate.reached.wait()
            for work in (put("a"), killing, put("b")):
                nursery.start_soon(swallow, store, work, results)
                await trio.testing.wait_all_tasks_blocked()
            gate.open()
        assert not [result for result in results if isinstance(result, Exception)]
        assert len(set(runs)) == len(runs) == 2
        assert await store.read(keys) == ["a", "b", "killed"]


async def test_a_backend_that_dies_every_time_fails_the_work_and_no_other(postgres_database):
    url = postgres_database.settings.url

    def killing(connection):
        put("never")(connection)
        kill(url, connection.execute(BACKEND).scalar_one())

    async with postgres_database.open() as store:
        with pytest.raises(StoreUnavailableError, match="PostgreSQL does not take this work"):
            await store.transact(killing)
        await store.transact(put("a"))
        assert await store.read(keys) == ["a"]
        assert store.statistics().trouble is None


async def test_a_backend_that_dies_while_it_lies_idle_is_not_noticed(postgres_database):
    async with postgres_database.open() as store:
        for number in range(3):
            writing = await store.transact(lambda connection: connection.execute(BACKEND).scalar_one())
            reading = await store.read(lambda connection: connection.execute(BACKEND).scalar_one())
            kill(postgres_database.settings.url, writing)
            kill(postgres_database.settings.url, reading)
            await store.transact(put(f"{number}"))
            assert len(await store.read(keys)) == number + 1


@pytest.mark.parametrize("stored", [True, False])
async def test_a_connection_lost_during_the_commit_leaves_the_outcome_unknown(
    postgres_database, monkeypatch, stored
):
    url = postgres_database.settings.url
    commit = PostgresqlConnection.commit

    def lost(connection):
        pid = connection.driver.info.backend_pid
        if stored:
            commit(connection)
        kill(url, pid)
        connection.begin()
        connection.leave_pipeline()

    async with postgres_database.open() as store:
        with monkeypatch.context() as patch:
            patch.setattr(PostgresqlConnection, "commit", lost)
            with pytest.raises(OutcomeUnknownError, match="stored, or not"):
                await store.transact(put("a"))
        await store.transact(put("b"))
        assert await store.read(keys) == (["a", "b"] if stored else ["b"])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_a_server_that_goes_and_comes_back(postgres_database, postgres_cluster, how):
    woken = trio.Event()

    async def watch(task_status):
        with store.watch("news") as watch:
            task_status.started()
            await watch.wait()
            woken.set()

    async with postgres_database.open() as store, trio.open_nursery() as nursery:
        await store.transact(put("a"))
        await nursery.start(watch)
        postgres_cluster.stop(how)
        try:
            for call, work in ((store.transact, put("b")), (store.ingest, put("b")), (store.read, keys)):
                with trio.fail_after(20), pytest.raises(StoreUnavailableError):
                    await call(work)
            assert "cannot be reached" in store.statistics().trouble
        finally:
            postgres_cluster.start()
        await until(lambda: store.statistics().trouble is None)  # by itself: nobody asks
        await store.transact(put("c"))
        assert await store.read(keys) == ["a", "c"]
        with trio.fail_after(20):  # something may have been announced meanwhile
            await woken.wait()


async def test_an_unreachable_server_is_said_at_the_start(postgres_cluster, tmp_path):
    nowhere = f"postgresql://econeura:secret@/x?host={tmp_path}"
    for url, words in (
        (nowhere, "cannot be reached"),
        (postgres_cluster.url("no_such_database"), "no_such_database. does not exist"),
    ):
        with pytest.raises(StoreUnavailableError, match=words) as caught:
            async with open_store(StorageSettings(url=url), tmp_path):
                pass
        assert "secret" not in str(caught.value)


async def test_a_server_that_only_reads_is_said_and_its_end_is_noticed(postgres_database, postgres_cluster):
    async with postgres_database.open() as store:
        await store.transact(put("a"))
        name = await store.read(
            lambda connection: connection.execute(sa.text("SELECT current_database()")).scalar()
        )
        postgres_cluster.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        pid = await store.transact(lambda connection: connection.execute(BACKEND).scalar_one())
        kill(postgres_database.settings.url, pid)
        with pytest.raises(StoreUnavailableError, match="only reads"):
            await store.transact(put("b"))
        assert "only reads" in store.statistics().trouble
        postgres_cluster.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await until(lambda: store.statistics().trouble is None)
        await store.transact(put("c"))


async def test_a_work_that_hides_an_error_of_the_database_fails_and_its_neighbours_do_not(postgres_database):
    """PostgreSQL answers the COMMIT of such a transaction with ROLLBACK, and no error."""

    def hiding(connection):
        put("lost")(connection)
        with contextlib.suppress(sa.exc.DBAPIError):
            connection.execute(sa.text("SELECT 1 / 0"))

    async with postgres_database.open() as store:
        results = []
        async with trio.open_nursery() as nursery:
            gate = Gate()
            nursery.start_soon(store.transact, gate.work)
            await gate.reached.wait()
            for work in (put("a"), hiding, put("b")):
                nursery.start_soon(swallow, store, work, results)
                await trio.testing.wait_all_tasks_blocked()
            gate.open()
        (error,) = [result for result in results if isinstance(result, Exception)]
        assert "went on after an error" in str(error)
        assert await store.read(keys) == ["a", "b"]


async def test_an_announcement_wakes_the_watches_of_other_daemons_once(postgres_database):
    async with postgres_database.open() as first, postgres_database.open() as second:
        with first.watch("news") as here, second.watch("news") as there, second.watch("other") as other:
            await first.transact(announce("news"))
            with trio.fail_after(10):
                await here.wait()
                await there.wait()
            for silent in (here, there, other):
                with trio.move_on_after(0.2) as scope:
                    await silent.wait()
                assert scope.cancelled_caught
            with pytest.raises(LookupError):
                await first.transact(announce("other", fails=True))
            with trio.move_on_after(0.2) as scope:
                await other.wait()
            assert scope.cancelled_caught


async def test_an_advisory_lock_lets_one_daemon_at_a_time_behind_it(postgres_database):
    inside = threading.Lock()
    overlaps, order = [], []

    def work(connection):
        connection.lock("cursor")
        count = connection.execute(sa.text("SELECT count(*) FROM meta")).scalar_one()
        overlaps.append(not inside.acquire(blocking=False))
        order.append(count)
        put_core(f"{count:04}")(connection)  # collides unless it is alone
        inside.release()

    async def many(store):
        for _ in range(30):
            await store.transact(work)

    async with postgres_database.open() as first, postgres_database.open() as second:
        async with trio.open_nursery() as nursery:
            for store in (first, second):
                nursery.start_soon(many, store)
        assert not any(overlaps)
        assert await first.read(keys) == [f"{number:04}" for number in range(60)]


async def test_daemons_that_deadlock_both_get_through(postgres_database):
    meet = threading.Barrier(2)
    runs = []

    def locking(first, second):
        def work(connection):
            runs.append(first)
            connection.lock(first)
            connection.execute(sa.text("SELECT 1"))
            if runs.count(first) == 1:
                meet.wait(20)
            connection.lock(second)
            put_core(first + second)(connection)

        return work

    async with postgres_database.open() as one, postgres_database.open() as other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.transact, locking("a", "b"))
            nursery.start_soon(other.transact, locking("b", "a"))
        assert await one.read(keys) == ["ab", "ba"]
    assert len(runs) >= 3


async def test_a_prepared_statement_that_no_longer_fits_costs_nobody_anything(postgres_database):
    look = Hot(sa.select(sa.literal_column("*")).select_from(meta))
    async with postgres_database.open() as store:
        for _ in range(10):
            await store.transact(lambda connection: connection.rows(look))
        with psycopg.connect(postgres_database.settings.url, autocommit=True) as other:
            other.execute("ALTER TABLE meta ADD COLUMN further TEXT")
        assert await store.transact(lambda connection: connection.rows(look)) == []


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (psycopg.errors.DiskFull("could not extend file"), StoreFullError),
        (psycopg.errors.TooManyConnections("sorry"), StoreUnavailableError),
        (psycopg.errors.AdminShutdown("terminating"), StoreUnavailableError),
        (psycopg.errors.LockNotAvailable("canceling"), StoreUnavailableError),
        (psycopg.errors.UniqueViolation("duplicate"), sa.exc.IntegrityError),
        (psycopg.errors.UndefinedTable("no such table"), psycopg.errors.UndefinedTable),
        (ValueError("not ours"), ValueError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_the_servers_errors_are_told_in_our_words(error, meaning):
    assert type(translate(error)) is meaning
