"""What is old is forgotten, and nothing that somebody still needs; held against both databases."""

from functools import partial

import pytest
import sqlalchemy as sa

from econeura_daemon.core.clock import from_ms
from econeura_daemon.core.ids import first_id
from econeura_daemon.events import Event, EventLog
from econeura_daemon.events import store as events_sql
from econeura_daemon.storage import tables
from econeura_daemon.storage.idempotency import Remembered, find, forget_old, remember
from econeura_daemon.storage.sweeping import BATCH, sweep_oldest
from econeura_daemon.webhooks import retention
from econeura_daemon.webhooks.store import retention as sql

DAY = 24 * 3600 * 1000
NOW = 200 * DAY


@pytest.fixture
async def store(database):
    async with database.open() as opened:
        yield opened


async def write_events(store, *instants):
    """One event an instant (milliseconds); returns their cursors."""
    log = EventLog(store)

    def work(connection):
        written = [
            Event.make(id=f"evt_{at}_{n}", type="a.b", data={}, source="s", now=from_ms(at))
            for n, at in enumerate(instants)
        ]
        log.append_all(connection, written)
        found = connection.execute(sa.select(tables.events.c.cursor).order_by(tables.events.c.cursor))
        return list(found.scalars())[-len(written) :]

    return await store.transact(work)


def delivery(at, event_id, status="delivered", subscription_id="sub_1"):
    return {
        "id": first_id("del", from_ms(at)), "event_id": event_id, "event_cursor": 1, "event_type": "a.b",
        "subscription_id": subscription_id, "status": status, "attempts": 1, "max_attempts": 10, "created_at": at,
        "next_attempt_at": at if status in ("pending", "retrying") else None,
    }  # fmt: skip


def attempt(delivery_id, number, at, status="succeeded"):
    return {
        "delivery_id": delivery_id, "number": number, "id": f"att_{delivery_id}_{number}", "trigger": "scheduled",
        "status": status, "started_at": at,
    }  # fmt: skip


async def write(store, table, *rows):
    await store.transact(lambda connection: connection.execute(sa.insert(table), list(rows)))


async def column(store, column):
    return await store.read(lambda c: list(c.execute(sa.select(column).order_by(column)).scalars()))


async def forget_events(store, before=100 * DAY):
    return await EventLog(store).forget(before, NOW)


async def test_old_events_go_and_those_of_the_last_days_stay_however_many_they_are(store):
    old = [DAY + n for n in range(2 * BATCH + 7)]
    cursors = await write_events(store, *old, 100 * DAY, 150 * DAY)
    assert await forget_events(store) == len(old)
    assert await column(store, tables.events.c.cursor) == cursors[-2:]
    assert await forget_events(store) == 0


async def test_an_event_stays_as_long_as_a_delivery_of_it_and_one_that_is_owed_is_never_forgotten(store):
    cursors = await write_events(store, DAY, DAY, DAY, DAY, 150 * DAY)
    ends = ("delivered", "failed", "pending", "canceled")
    deliveries = [delivery(DAY + n, f"evt_{DAY}_{n}", status) for n, status in enumerate(ends)]
    await write(store, tables.deliveries, *deliveries)
    await write(store, tables.attempts, *(attempt(one["id"], 1, DAY) for one in deliveries))
    assert await forget_events(store) == 0
    assert await retention.forget_deliveries(store, 100 * DAY) == 3
    assert await column(store, tables.attempts.c.delivery_id) == [deliveries[2]["id"]]
    assert await forget_events(store) == 3
    assert await column(store, tables.events.c.cursor) == [cursors[2], cursors[4]]


async def test_whoever_reads_on_from_what_is_gone_can_tell_also_where_an_owed_event_is_left(store):
    log = EventLog(store)
    assert await log.bounds() == (0, 0)
    cursors = await write_events(store, *[DAY] * 5, 150 * DAY, 160 * DAY)
    await write(store, tables.deliveries, delivery(DAY, f"evt_{DAY}_1", "retrying"))
    assert await log.bounds() == (cursors[0], cursors[6])
    assert await forget_events(store) == 4
    assert await log.bounds() == (cursors[5], cursors[6]), "not from the owed one on"
    assert await forget_events(store, NOW) == 1
    assert await log.bounds() == (cursors[6], cursors[6]), "the newest stays: it tells how far the log came"


async def test_events_of_a_clock_that_was_ahead_hold_up_nothing_behind_them(store):
    cursors = await write_events(store, DAY, 4000 * DAY, 2 * DAY, 150 * DAY, 3 * DAY, 160 * DAY)
    assert await forget_events(store) == 2
    assert await column(store, tables.events.c.cursor) == [cursors[1], *cursors[3:]]
    assert await EventLog(store).bounds() == (cursors[3], cursors[5])


async def test_what_became_owed_after_the_look_is_not_forgotten(store):
    (cursor, _) = await write_events(store, DAY, 150 * DAY)
    found = await store.read(partial(events_sql.old, after=0, before=100 * DAY, now=NOW))
    assert list(found.old) == [cursor]
    await write(store, tables.deliveries, delivery(DAY, f"evt_{DAY}_0", "failed"))
    assert await store.transact(partial(events_sql.forget, cursors=found.old)) == 0
    assert await EventLog(store).bounds() == (cursor, cursor + 1), "nothing is gone"

    tried_again = await store.read(partial(sql.old_deliveries, after="", before="del_Z"))
    await store.transact(lambda c: c.execute(sa.update(tables.deliveries).values(status="pending")))
    assert await store.transact(partial(sql.forget_deliveries, ids=tried_again.old)) == 0


async def test_old_attempts_go_but_neither_new_ones_of_an_old_delivery_nor_one_under_way(store):
    old, young = first_id("del", from_ms(DAY)), first_id("del", from_ms(150 * DAY))
    await write(
        store,
        tables.attempts,
        *(attempt(old, n, DAY) for n in range(1, BATCH + 3)),
        attempt(old, 1000, 150 * DAY),
        attempt(old, 1001, DAY, "started"),
        attempt(young, 1, 150 * DAY),
    )
    assert await retention.forget_attempts(store, 100 * DAY) == BATCH + 2
    assert await column(store, tables.attempts.c.number) == [1, 1000, 1001]


async def test_a_deleted_subscription_goes_with_its_last_delivery(store):
    def subscription(key, deleted_at):
        return {
            "id": key, "url": "http://x", "active": False, "created_at": 0, "updated_at": 0, "patterns": "[]",
            "headers": "{}", "secrets": "[]", "deleted_at": deleted_at,
        }  # fmt: skip

    await write(
        store,
        tables.subscriptions,
        subscription("sub_1", DAY),
        subscription("sub_2", DAY),
        subscription("sub_3", 150 * DAY),
        subscription("sub_4", None),
    )
    await write(store, tables.deliveries, delivery(150 * DAY, "e", subscription_id="sub_2"))
    await retention.forget_deliveries(store, 100 * DAY)
    assert await column(store, tables.subscriptions.c.id) == ["sub_2", "sub_3", "sub_4"]
    await retention.forget_deliveries(store, 160 * DAY)
    assert await column(store, tables.subscriptions.c.id) == ["sub_4"]


async def test_answers_that_no_longer_count_go_also_if_no_key_comes_any_more(store):
    for n in range(5):
        kept = Remembered(body_hash=b"h", created_at=n * DAY, status=202, response=b"r")
        await store.transact(partial(remember, scope="s", key=f"k{n}", answer=kept, since=-DAY))
    assert await sweep_oldest(store, partial(forget_old, since=3 * DAY, limit=3)) == 4
    assert await store.read(partial(find, scope="s", key="k4", since=3 * DAY)) is not None
