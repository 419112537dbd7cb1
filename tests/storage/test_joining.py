"""Works of one pass of the event loop share a commit; those that do the same are done together."""

import math
from functools import partial

import pytest
import sqlalchemy as sa
import trio

from econeura_daemon.core.errors import StoreFullError
from econeura_daemon.storage import Joint
from econeura_daemon.storage.joining import join
from econeura_daemon.storage.works import Submission
from tests.storage.works import keys, put


async def all_at_once(works):
    """Run the works, each for a caller of its own; return values or errors, in their order."""
    results = {}

    async def call(number, work):
        try:
            results[number] = await work()
        except Exception as error:  # noqa: BLE001 - each is looked at
            results[number] = error

    async with trio.open_nursery() as nursery:
        for number, work in enumerate(works):
            nursery.start_soon(call, number, work)
    return [results[number] for number in range(len(works))]


async def test_what_is_asked_in_one_pass_is_committed_together(database):
    async with database.open() as store:
        await store.transact(put("before"))
        before = store.statistics().groups
        await all_at_once([partial(store.transact, put(f"{number}")) for number in range(20)])
        assert store.statistics().groups == before + 1
        assert len(await store.read(keys)) >= 20


async def test_works_that_do_the_same_are_done_together_and_each_gets_its_own_value(database):
    parties = []

    def act(connection, items):
        parties.append(list(items))
        for item in items:
            put(item)(connection)
        return [item.upper() for item in items]

    async with database.open() as store:
        await store.transact(put("before"))
        works = [partial(store.transact, Joint(act, item)) for item in "abc"]
        works.insert(1, partial(store.transact, put("between")))
        assert await all_at_once(works) == ["A", "between", "B", "C"]
        assert sorted(parties[-1]) == ["a", "b", "c"], "one call"
        assert {"a", "b", "c", "between"} <= set(await store.read(keys))


async def test_one_that_fails_takes_nobody_along(database):
    happened, undone = [], []

    def act(connection, items):
        for item in items:
            put(item)(connection)
            connection.on_rollback(partial(undone.append, item))
            connection.after_commit(partial(happened.append, item))
            if item == "bad":
                raise LookupError(item)
        return list(items)

    async with database.open() as store:
        items = ["a", "bad", "b"]
        a, bad, b = await all_at_once([partial(store.transact, Joint(act, item)) for item in items])
        assert (a, b) == ("a", "b")
        assert isinstance(bad, LookupError)
        assert sorted(happened) == ["a", "b"]
        assert "bad" in undone
        found = await store.read(keys)
        assert {"a", "b"} <= set(found)
        assert "bad" not in found


async def test_who_fails_each_time_costs_the_others_a_bounded_number_of_tries_and_commits(database):
    calls, transactions = [], set()

    def act(connection, items):
        calls.append(len(items))
        if connection.backend == "postgresql":
            transactions.add(connection.execute(sa.text("SELECT pg_current_xact_id()::text")).scalar_one())
        for item in items:
            put(item)(connection)
            if item.startswith("bad"):
                raise LookupError(item)
        return list(items)

    async with database.open() as store:
        await store.transact(put("before"))
        for number in range(5):
            calls.clear()
            transactions.clear()
            items = [f"{number}-{n}" for n in range(20)] + [f"bad-{number}"]
            before = store.statistics()
            results = await all_at_once([partial(store.transact, Joint(act, item)) for item in items])
            after = store.statistics()
            assert results[:-1] == items[:-1]
            tries, commits = (
                (1, 0) if database.backend == "sqlite" else (4, 2 + 2 * math.ceil(math.log2(len(items))))
            )
            assert calls[0] == len(items), "together once"
            assert len(calls) - 1 == calls.count(1) <= tries * len(items), (
                "then each alone, a few times at most"
            )
            assert len(transactions) <= commits
            assert after.groups == before.groups + 1, "and nobody waits for another group"
        assert store.statistics().failures == 5


async def test_a_caller_that_left_keeps_nobody_from_the_result(database):
    def act(connection, items):
        for item in items:
            put(item)(connection)
        return list(items)

    async with database.open() as store, trio.open_nursery() as nursery:
        leaving = trio.CancelScope()

        async def leave():
            with leaving:
                await store.transact(Joint(act, "left"))

        nursery.start_soon(leave)
        while not store.statistics().queued:
            await trio.lowlevel.checkpoint()
        leaving.cancel()
        assert await store.transact(Joint(act, "stayed")) == "stayed"
        assert {"left", "stayed"} <= set(await store.read(keys)), "what is queued happens"


def test_what_the_store_may_refuse_is_not_joined_with_what_it_may_not():
    def act(_connection, items):
        return items

    group = [Submission(Joint(act, number), ingest=number % 2 == 0) for number in range(5)]
    to_run, parties = join(group)
    assert [one.ingest for one in to_run] == [True, False]
    assert [[member.work.item for member in party.members] for party in parties] == [[0, 2, 4], [1, 3]]


def test_a_refusal_is_given_to_each_as_an_error_of_its_own():
    def act(_connection, items):
        return items

    group = [Submission(Joint(act, number)) for number in range(2)]
    [stand_in], [party] = join(group)
    stand_in.fail(StoreFullError("no space is left"))
    assert party.settle()
    assert [str(one.error) for one in group] == ["no space is left"] * 2
    assert group[0].error is not group[1].error


def test_values_that_are_not_one_for_each_are_a_bug():
    group = [Submission(Joint(lambda _connection, _items: [], number)) for number in range(2)]
    group[1].work = group[0].work
    [stand_in], [party] = join(group)
    stand_in.value = []
    with pytest.raises(ValueError, match="zip"):
        party.settle()
