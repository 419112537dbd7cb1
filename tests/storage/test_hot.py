"""Hot statements compile once, to the driver's text, and know their parameters."""

import pytest
import sqlalchemy as sa

from econeura_daemon.storage import Hot
from econeura_daemon.storage.dialect import insert, now_ms, skip_locked
from econeura_daemon.storage.tables import deliveries, events, meta

BACKENDS = ("sqlite", "postgresql")


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_insert_takes_its_rows_as_they_are(backend):
    hot = Hot(sa.insert(meta), "key", "value")
    compiled = hot.compiled(backend)
    assert compiled.arrange is None
    assert compiled is hot.compiled(backend)
    assert compiled.text.count("?" if backend == "sqlite" else "%s") == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_are_in_the_order_of_the_names_not_of_the_text(backend):
    hot = Hot(
        sa.update(deliveries)
        .where(deliveries.c.id == sa.bindparam("which"), deliveries.c.status.in_(["pending", "retrying"]))
        .values(claimed_by=sa.bindparam("run"), status="delivering", lease_until=None),
        "which",
        "run",
    )
    compiled = hot.compiled(backend)
    assert tuple(compiled.arrange(("dlv", "me"))) == ("me", "dlv")
    # Constants stand in the text: a partial index can match them.
    assert "IN ('pending', 'retrying')" in compiled.text
    assert "'delivering'" in compiled.text


@pytest.mark.parametrize("backend", BACKENDS)
def test_constants_of_an_insert_go_along(backend):
    hot = Hot(sa.insert(meta).values(value="it's 100%"), "key")
    compiled = hot.compiled(backend)
    assert sorted(compiled.arrange(("k",))) == ["it's 100%", "k"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("names", [(), ("after",), ("after", "limit", "more")])
def test_names_that_do_not_fit_are_a_type_error(backend, names):
    hot = Hot(
        sa.select(events.c.id)
        .where(events.c.cursor > sa.bindparam("after", type_=sa.BigInteger))
        .limit(sa.bindparam("limit", type_=sa.Integer)),
        *names,
    )
    with pytest.raises((TypeError, sa.exc.InvalidRequestError)):
        hot.compiled(backend)


def test_a_hot_statement_says_what_it_is():
    assert repr(Hot(sa.insert(meta), "key", "value")).startswith("<Hot 'INSERT INTO meta")


async def test_hot_statements_run_on_both_databases(database):
    upsert = insert(meta)
    put = Hot(
        upsert.on_conflict_do_update(index_elements=["key"], set_={"value": upsert.excluded.value}),
        "key",
        "value",
    )
    add = Hot(insert(meta).on_conflict_do_nothing().returning(meta.c.key), "key", "value")
    find = Hot(
        sa.select(meta.c.key, meta.c.value)
        .where(meta.c.key >= sa.bindparam("first"), meta.c.value != "100% no")
        .order_by(meta.c.key)
        .limit(sa.bindparam("limit", type_=sa.Integer)),
        "limit",
        "first",
    )
    count = Hot(sa.select(sa.func.count()).select_from(meta).where(meta.c.key == "a"))

    def work(connection):
        connection.run(put, [("a", "1"), ("b", "2"), ("c", "100% no")])
        connection.run(put, [("a", "3")])
        return (
            connection.rows(add, ("a", "4")),
            connection.rows(add, ("d", "4")),
            connection.rows(find, (2, "a")),
            connection.rows(find, (9, "b")),
            connection.rows(count),
        )

    async with database.open() as store:
        assert await store.transact(work) == (
            [], [("d",)], [("a", "3"), ("b", "2")], [("b", "2"), ("d", "4")], [(1,)],
        )  # fmt: skip
        assert await store.read(lambda connection: connection.rows(find, (1, "b"))) == [("b", "2")]


async def test_the_databases_clock_tells_milliseconds(database):
    statement = sa.select(now_ms())
    async with database.open() as store:
        first = await store.read(lambda connection: connection.execute(statement).scalar_one())
        ((second,),) = await store.read(lambda connection: connection.rows(Hot(statement)))
        assert isinstance(first, int)
        assert 1_700_000_000_000 < first <= second < first + 60_000


async def test_skip_locked_compiles_on_both(database):
    async with database.open() as store:
        statement = skip_locked(sa.select(deliveries.c.id))
        assert await store.transact(lambda connection: list(connection.execute(statement))) == []
