"""Kept answers and settled facts, on each engine."""

import pytest
import trio

from econeura_daemon.storage.facts import fact, settle_fact
from econeura_daemon.storage.idempotency import KeyTakenError, Remembered, find, remember

DAY = 24 * 3600 * 1000


def answer(at, response=b"first", body_hash=b"h"):
    return Remembered(body_hash=body_hash, created_at=at, status=202, response=response)


@pytest.fixture
async def store(database):
    async with database.open() as opened:
        yield opened


async def keep(store, key, kept, *, scope="s"):
    since = kept.created_at - DAY
    await store.transact(lambda connection: remember(connection, scope, key, kept, since=since))


async def look(store, key, *, now, scope="s"):
    return await store.read(lambda connection: find(connection, scope, key, since=now - DAY))


async def test_an_answer_is_found_under_its_scope_and_key_for_as_long_as_it_counts(store):
    kept = answer(DAY * 10)
    await keep(store, "k", kept)
    assert await look(store, "k", now=DAY * 10) == kept
    assert await look(store, "k", now=DAY * 11 - 1) == kept
    assert await look(store, "k", now=DAY * 11) is None
    assert await look(store, "other", now=DAY * 10) is None
    assert await look(store, "k", now=DAY * 10, scope="other") is None


async def test_a_key_in_use_refuses_and_tells_the_first_answer_and_undoes_the_rest(store):
    first = answer(DAY * 10)
    await keep(store, "k", first)

    def work(connection):
        settle_fact(connection, "undone", "yes")
        remember(connection, "s", "k", answer(DAY * 10 + 5, b"second"), since=DAY * 9)

    with pytest.raises(KeyTakenError) as taken:
        await store.transact(work)
    assert taken.value.first == first
    assert await store.read(lambda connection: fact(connection, "undone")) is None


async def test_a_key_that_no_longer_counts_is_taken_anew(store):
    await keep(store, "k", answer(DAY * 10))
    later = answer(DAY * 12, b"second", b"other")
    await keep(store, "k", later)
    assert await look(store, "k", now=DAY * 12) == later


async def test_of_many_at_once_one_keeps_its_answer_and_all_are_told_it(store):
    outcomes = []

    async def one(number):
        mine = answer(DAY * 10, b"%d" % number)
        try:
            await keep(store, "k", mine)
            outcomes.append(mine)
        except KeyTakenError as taken:
            outcomes.append(taken.first)

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(one, number)
    assert len(outcomes) == 30
    assert len({outcome.response for outcome in outcomes}) == 1
    assert await look(store, "k", now=DAY * 10) == outcomes[0]


async def test_works_that_settle_a_fact_at_once_agree(database):
    async with database.open() as one:
        settled = []

        async def settle(value):
            settled.append(await one.transact(lambda connection: settle_fact(connection, "key", value)))

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(settle, f"value {number}")
        assert len(set(settled)) == 1
        assert await one.read(lambda connection: fact(connection, "key")) == settled[0]


async def test_daemons_that_share_postgresql_take_turns_over_one_key(postgres_database):
    async with postgres_database.open() as one, postgres_database.open() as other:
        answers = []

        async def run(store, number):
            mine = answer(DAY * 10, b"%d" % number)
            try:
                await keep(store, "k", mine)
                answers.append(mine.response)
            except KeyTakenError as taken:
                answers.append(taken.first.response)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(run, one if number % 2 else other, number)
        assert len(set(answers)) == 1
