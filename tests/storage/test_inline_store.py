"""The in-line store behaves like the real one, as far as it can."""

import pytest
import sqlalchemy as sa
import trio

from econeura_daemon.core.errors import StoreUnavailableError
from econeura_daemon.storage.tables import meta
from tests.support.inline_store import open_inline_store


def put(key):
    return lambda connection: connection.execute(sa.insert(meta).values(key=key, value="v")) and key


def keys(connection):
    return connection.execute(sa.select(meta.c.key).order_by(meta.c.key)).scalars().all()


async def test_works_run_in_the_loop_and_time_stands_still_for_them(autojump_clock):
    async with open_inline_store() as store:
        began = trio.current_time()
        with trio.fail_after(1000):
            for number in range(100):
                await store.transact(put(f"{number:03}"))
            assert len(await store.read(keys)) == 100
        assert trio.current_time() == began


async def test_a_failing_work_leaves_nothing_and_actions_follow_the_commit(autojump_clock):
    seen = []

    def work(connection):
        put("b")(connection)
        connection.after_commit(lambda: seen.append("committed"))
        connection.on_rollback(lambda: seen.append("rolled back"))
        raise KeyError("b")

    def good(connection):
        put("a")(connection)
        connection.after_commit(lambda: seen.append("committed"))
        connection.announce("news")

    async with open_inline_store() as store:
        with store.watch("news") as watch:
            with pytest.raises(KeyError):
                await store.transact(work)
            assert seen == ["rolled back"]
            await store.transact(good)
            assert seen == ["rolled back", "committed"]
            await watch.wait()
        assert await store.read(keys) == ["a"]


async def test_a_cancelled_caller_changes_nothing(autojump_clock):
    async with open_inline_store() as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.transact(put("a"))
        assert await store.read(keys) == []


async def test_a_reading_work_cannot_write(autojump_clock):
    async with open_inline_store() as store:
        with pytest.raises(RuntimeError, match="only reads"):
            await store.read(lambda connection: connection.announce("news"))
        await store.read(put("a"))
        assert await store.read(keys) == []


async def test_trouble_can_be_played(autojump_clock):
    async with open_inline_store() as store:
        store.trouble = StoreUnavailableError("the server is away")
        with pytest.raises(StoreUnavailableError, match="away"):
            await store.ingest(put("a"))
        assert store.statistics().trouble == "the server is away"
