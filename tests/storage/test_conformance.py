"""What a store promises, held against both databases."""

import threading

import pytest
import sqlalchemy as sa
import trio
import trio.testing

from econeura_daemon.core.errors import StoreBusyError, StoreUnavailableError
from econeura_daemon.storage.tables import meta
from tests.storage.works import keys, put, put_core


class Gate:
    """A work that holds the writer until it is opened, so that what follows queues up behind it."""

    def __init__(self):
        self._open = threading.Event()
        self._token = trio.lowlevel.current_trio_token()
        self.reached = trio.Event()
        self.also = None

    def work(self, connection):
        self._token.run_sync_soon(self.reached.set)
        assert self._open.wait(20)
        if self.also is not None:
            self.also(connection)

    def open(self):
        self._open.set()


async def swallow(store, work, results):
    try:
        results.append(await store.transact(work))
    except Exception as error:  # noqa: BLE001 - it is looked at
        results.append(error)


@pytest.fixture
async def writer_held(database):
    """A store of 4 places whose writer is held, and the gate that holds it."""
    async with database.open(queue=4, patience=0.05) as store, trio.open_nursery() as nursery:
        gate = Gate()
        nursery.start_soon(store.transact, gate.work)
        await gate.reached.wait()
        try:
            yield store, gate
        finally:
            gate.open()


async def test_a_work_is_committed_when_its_caller_gets_the_result(database):
    async with database.open() as store:
        assert await store.transact(put("a")) == "a"
        assert await store.ingest(put_core("b")) == "b"
        assert await store.read(keys) == ["a", "b"]
        await store.ping()
    async with database.open() as store:
        assert await store.read(keys) == ["a", "b"]


async def test_cancelled_before_it_is_queued_nothing_happens(database):
    async with database.open() as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.transact(put("a"))
        assert scope.cancelled_caught
        await store.ping()
        assert await store.read(keys) == []


async def test_cancelled_while_it_waits_for_room_nothing_happens(writer_held):
    store, gate = writer_held
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(store.transact, put(name))
        await trio.testing.wait_all_tasks_blocked()
        assert store.statistics().queued == 4
        with trio.move_on_after(0.01) as scope:
            await store.transact(put("too late"))
        assert scope.cancelled_caught
        gate.open()
    await store.ping()
    assert await store.read(keys) == ["a", "b", "c"]


async def test_cancelled_once_it_is_queued_the_work_happens_and_so_do_its_actions(writer_held):
    store, gate = writer_held
    seen = []

    def work(connection):
        put("a")(connection)
        connection.after_commit(lambda: seen.append("a"))

    with trio.move_on_after(0.01) as scope:
        await store.transact(work)
    assert scope.cancelled_caught
    assert seen == []
    gate.open()
    await store.ping()
    assert seen == ["a"]
    assert await store.read(keys) == ["a"]


async def test_room_is_given_in_the_order_of_asking(writer_held):
    store, gate = writer_held
    order = []

    def noted(name):
        def work(connection):
            put(name)(connection)
            connection.after_commit(lambda: order.append(name))

        return work

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(store.transact, noted(f"{number:02}"))
            await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert order == [f"{number:02}" for number in range(20)]


async def test_ingest_is_told_to_come_back_when_the_queue_stays_full(writer_held):
    store, gate = writer_held
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(store.transact, put(name))
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5), pytest.raises(StoreBusyError, match="4 works wait"):
            await store.ingest(put("too much"))
        gate.open()
    assert await store.ingest(put("d")) == "d"
    assert await store.read(keys) == ["a", "b", "c", "d"]
    assert store.statistics().queued == 0


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("how", ["raises", "conflicts", "conflicts late"])
async def test_a_failing_work_fails_alone_wherever_it_stands_in_its_group(writer_held, place, how):
    store, gate = writer_held
    results = []
    gate.also = put("taken")

    def failing(connection):
        put("undone")(connection)
        if how == "raises":
            raise LookupError("no")
        if how == "conflicts":
            put_core("taken")(connection)
        else:
            put("taken")(connection)

    works = [put_core("zeroth"), put("other")]
    works.insert(place, failing)
    async with trio.open_nursery() as nursery:
        for work in works:
            nursery.start_soon(swallow, store, work, results)
            await trio.testing.wait_all_tasks_blocked()
        gate.open()
    (error,) = [result for result in results if isinstance(result, BaseException)]
    assert isinstance(error, LookupError if how == "raises" else sa.exc.IntegrityError)
    assert await store.read(keys) == ["other", "taken", "zeroth"]
    assert store.statistics().failures == 1


async def test_actions_follow_the_commit_in_its_order_and_before_the_callers_go_on(writer_held):
    store, gate = writer_held
    seen = []

    def work(name, *, fails=False):
        def run(connection):
            put(name)(connection)
            connection.after_commit(lambda: seen.append(f"{name} committed"))
            connection.after_commit(lambda: 1 / 0 if name == "a" else seen.append(f"{name} again"))
            if fails:
                raise LookupError(name)

        return run

    async def call(name, **options):
        try:
            await store.transact(work(name, **options))
        except LookupError:
            seen.append(f"{name} failed")
        else:
            seen.append(f"{name} returned")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, "a")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(lambda: call("b", fails=True))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(call, "c")
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    before_callers = [line for line in seen if "committed" in line or "again" in line]
    assert before_callers == ["a committed", "c committed", "c again"]
    assert seen.index("a committed") < seen.index("a returned")
    assert seen.index("c again") < seen.index("c returned")
    assert "b failed" in seen


async def test_what_is_undone_is_told_and_a_success_is_not(database):
    undone = []

    def work(name, *, fails):
        def run(connection):
            connection.on_rollback(lambda: undone.append(f"{name} first"))
            connection.on_rollback(lambda: undone.append(f"{name} second"))
            put(name)(connection)
            if fails:
                raise LookupError(name)

        return run

    async with database.open() as store:
        await store.transact(work("a", fails=False))
        assert undone == []
        with pytest.raises(LookupError):
            await store.transact(work("b", fails=True))
        # The last first, as one takes things back; on PostgreSQL a group of one is not run twice.
        assert undone == ["b second", "b first"]


async def test_a_work_that_ran_twice_acts_once(writer_held):
    """On PostgreSQL a failing neighbour makes a work run again; its actions must not double."""
    store, gate = writer_held
    runs, undone, committed = [], [], []

    def good(connection):
        runs.append("good")
        put("good")(connection)
        connection.on_rollback(lambda: undone.append("good"))
        connection.after_commit(lambda: committed.append("good"))
        connection.announce("news")
        return len(runs)

    def bad(connection):
        runs.append("bad")
        connection.on_rollback(lambda: undone.append("bad"))
        put("bad")(connection)
        raise LookupError

    results = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(swallow, store, good, results)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(swallow, store, bad, results)
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert committed == ["good"]
    assert undone.count("good") == runs.count("good") - 1
    assert undone.count("bad") == runs.count("bad")
    (value,) = [result for result in results if not isinstance(result, Exception)]
    assert value == max(place for place, name in enumerate(runs, 1) if name == "good")


async def test_the_last_queued_works_are_committed_before_the_block_is_left(database):
    async with trio.open_nursery() as nursery, database.open() as store:
        for number in range(50):
            nursery.start_soon(store.transact, put(f"{number:02}"))
        await trio.testing.wait_all_tasks_blocked()
    async with database.open() as store:
        assert len(await store.read(keys)) == 50


async def test_who_waits_for_room_when_the_block_is_left_is_turned_away(database):
    results = []
    async with trio.open_nursery() as nursery, database.open(queue=1) as store:
        gate = Gate()
        nursery.start_soon(store.transact, gate.work)
        await gate.reached.wait()

        async def wait_for_room():
            await swallow(store, put("a"), results)
            gate.open()  # only now the writer can go on, and the block be left

        nursery.start_soon(wait_for_room)
        await trio.testing.wait_all_tasks_blocked()
    (error,) = results
    assert isinstance(error, StoreUnavailableError)


async def test_a_closed_store_takes_nothing(database):
    async with database.open() as store:
        pass
    for call in (store.transact, store.ingest, store.read):
        with pytest.raises(StoreUnavailableError, match="closed"):
            await call(put("a"))
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.ping()


async def test_a_cancelled_block_still_closes_and_keeps_what_was_queued(database):
    with trio.CancelScope() as scope:
        async with database.open() as store, trio.open_nursery() as nursery:
            for name in "ab":
                nursery.start_soon(store.transact, put(name))
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    async with database.open() as store:
        assert await store.read(keys) == ["a", "b"]


async def test_a_cancelled_block_is_not_left_before_the_writers_thread_has_ended(database):
    def slow(_connection):
        threading.Event().wait(0.3)

    with trio.CancelScope() as scope:
        async with database.open() as store, trio.open_nursery() as nursery:
            nursery.start_soon(store.transact, slow)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("store-")]


async def test_a_reader_sees_one_view_while_the_writer_goes_on(database):
    token = trio.lowlevel.current_trio_token()
    in_between = trio.Event()
    go_on = threading.Event()

    def look_twice(connection):
        before = keys(connection)
        token.run_sync_soon(in_between.set)
        assert go_on.wait(20)
        return before, keys(connection)

    results = []

    async def read():
        results.append(await store.read(look_twice))

    async with database.open() as store:
        await store.transact(put("a"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await in_between.wait()
            await store.transact(put("b"))
            go_on.set()
        assert results == [(["a"], ["a"])]
        assert await store.read(keys) == ["a", "b"]


async def test_readers_read_side_by_side_but_no_more_than_there_are_connections(database):
    inside = threading.Barrier(3)
    running, most = 0, 0
    lock = threading.Lock()

    def work(connection):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        inside.wait(20)  # three at a time, or this breaks
        keys(connection)
        with lock:
            running -= 1

    async with database.open(readers=3) as store, trio.open_nursery() as nursery:
        for _ in range(9):
            nursery.start_soon(store.read, work)
    assert most == 3


async def test_a_reading_work_cannot_write(database):
    async with database.open() as store:
        for work in (put("a"), put_core("a")):
            with pytest.raises(Exception, match=r"(?i)read.?only"):
                await store.read(work)
        with pytest.raises(RuntimeError, match="only reads"):
            await store.read(lambda connection: connection.after_commit(print))
        assert await store.read(keys) == []  # and the connection is well


async def test_a_reading_works_own_error_comes_back_as_it_is(database):
    def work(_connection):
        raise IndexError("mine")

    async with database.open() as store:
        await store.read(keys)
        with pytest.raises(IndexError, match="mine"):
            await store.read(work)


async def test_a_watch_wakes_for_its_own_topic_once_it_is_committed(database):
    async with database.open() as store:
        with store.watch("news") as watch, store.watch("other") as other:
            with pytest.raises(LookupError):
                await store.transact(announce("news", fails=True))
            with trio.move_on_after(0.05) as scope:
                await watch.wait()
            assert scope.cancelled_caught
            await store.transact(announce("news"))
            await store.transact(announce("news"))
            with trio.fail_after(5):
                await watch.wait()
            for silent in (watch, other):
                with trio.move_on_after(0.05) as scope:
                    await silent.wait()
                assert scope.cancelled_caught


def announce(topic, *, fails=False):
    def work(connection):
        connection.announce(topic)
        if fails:
            raise LookupError

    return work


async def test_a_value_comes_back_from_the_database_as_it_went_in(database):
    async with database.open() as store:
        for number, value in enumerate(("100% ?", "':name'", "é\n\U0001f600", "")):
            await store.transact(put(f"{number}", value))
            await store.transact(put_core(f"{number}c", value))
            statement = sa.select(meta.c.value).where(meta.c.key.in_([f"{number}", f"{number}c"]))
            found = await store.read(lambda connection, it=statement: list(connection.execute(it).scalars()))
            assert found == [value, value]


async def test_statistics_tell_groups_works_and_failures(database):
    async with database.open() as store:
        await store.transact(put("a"))
        with pytest.raises(sa.exc.IntegrityError):
            await store.transact(put_core("a"))
        told = store.statistics()
        assert (told.backend, told.queued, told.groups, told.works, told.failures, told.trouble) == (
            database.backend, 0, 2, 1, 1, None,
        )  # fmt: skip
        assert 0 < told.last_commit_seconds < 20


async def test_a_group_is_undone_in_the_reverse_of_the_order_in_which_it_was_done(writer_held, database):
    store, gate = writer_held
    first, value, seen, results = True, [0], [], []

    def add(step):
        def work(connection):
            put(f"n{step}{len(seen)}")(connection)
            before = value[0]
            connection.on_rollback(lambda: value.__setitem__(0, before))
            value[0] = before + step
            seen.append(value[0])

        return work

    def spoil(connection):
        nonlocal first
        put("spoilt")(connection)
        if first:
            first = False
            if database.backend == "sqlite":
                connection.driver.execute("ROLLBACK")  # as SQLite itself does when the disk is full
            raise ZeroDivisionError

    async with trio.open_nursery() as nursery:
        for work in (add(1), add(10), spoil):
            nursery.start_soon(swallow, store, work, results)
            await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert value == [11]
    assert seen in ([1, 11, 1, 11], [1, 11])
    assert seen[-2:] == [1, 11]
