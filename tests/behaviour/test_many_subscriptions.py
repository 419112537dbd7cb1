"""An event costs the same work whether ten subscriptions stand or ten thousand, met for the first time or again.

Work is counted, not timed: statements, rows that are read out, requests that are prepared.
"""

import weakref

import attrs
import pytest
import sqlalchemy as sa
import trio.testing

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.storage import tables
from econeura_daemon.webhooks.fan_out import Matcher
from econeura_daemon.webhooks.sender import Sender
from econeura_daemon.webhooks.store import recovery, subscriptions
from tests.support.inline_store import open_inline_store
from tests.support.receivers import outgoing, subscription
from tests.support.rig import answered, open_rig

MANY = 10_000


async def subscribe(store, count, *, pattern="bench.t{}"):
    """Write ``count`` subscriptions, each to a type of its own, at once: one by one they would take a while."""

    def work(connection):
        keys = [f"sub_{n:06}" for n in range(count)]
        texts = {"patterns": "[]", "headers": '{"X-Tenant":"a"}', "secrets": '[["a secret of mine",null]]'}
        instants = {"created_at": 0, "updated_at": 0}
        connection.execute(
            sa.insert(tables.subscriptions),
            [
                {"id": key, "url": f"http://r.example/{key}", "active": True, **texts, **instants}
                for key in keys
            ],
        )
        connection.execute(
            sa.insert(tables.subscription_patterns),
            [{"pattern": pattern.format(n), "subscription_id": key} for n, key in enumerate(keys)],
        )

    await store.transact(work)


class Counting:
    """A connection that counts what is asked of it."""

    def __init__(self, inner):
        self._inner = inner
        self.hot = self.read = self.core = 0

    def rows(self, hot, parameters=()):
        found = self._inner.rows(hot, parameters)
        self.hot += 1
        self.read += len(found)
        return found

    def execute(self, *_):
        self.core += 1
        raise AssertionError("SQLAlchemy costs an event more than all the rest")


async def test_who_is_not_remembered_costs_one_hot_statement_and_who_is_costs_none():
    matcher = Matcher()

    def matching(connection):
        counting = Counting(connection)
        matcher.refresh(counting)
        for n in range(MANY):
            [taker] = matcher.match(counting, f"bench.t{n}")
            assert taker.id == f"sub_{n:06}"
        return counting.hot, counting.read

    async with open_inline_store() as store:
        await subscribe(store, MANY)
        generation, wildcards = 1, 2
        assert await store.transact(matching) == (generation + MANY + wildcards, MANY)
        assert await store.transact(matching) == (generation, 0)


async def test_takers_of_every_kind_of_pattern_come_once_each_in_the_order_of_their_ids():
    matcher = Matcher()

    def matching(connection):
        rows = [("sub_000002", "bench.*"), ("sub_000001", "*"), ("sub_000001", "bench.*")]
        connection.execute(
            sa.insert(tables.subscription_patterns),
            [{"subscription_id": key, "pattern": pattern} for key, pattern in rows],
        )
        matcher.refresh(connection)
        return [
            [one.id for one in matcher.match(connection, event_type)]
            for event_type in ("bench.t0", "bench.other", "bench.t2", "else")
        ]

    async with open_inline_store() as store:
        await subscribe(store, 3)
        assert await store.transact(matching) == [
            ["sub_000000", "sub_000001", "sub_000002"],
            ["sub_000001", "sub_000002"],
            ["sub_000001", "sub_000002"],
            ["sub_000001"],
        ]


@pytest.mark.parametrize(("most", "again"), [(2500, 2 + 2), (5000, 0)])
async def test_a_matcher_that_holds_too_much_forgets_it_before_the_next_transaction(most, again):
    matcher, newcomer = Matcher(most), subscription("http://r.example/", patterns=("bench.else",))

    def matching(connection):
        counting = Counting(connection)
        matcher.refresh(counting)
        for n in (0, 1):
            assert [one.id for one in matcher.match(counting, f"bench.t{n}")] == [f"sub_{n:06}"]
        return counting.hot - 1

    async with open_inline_store() as store:
        await subscribe(store, 2)
        assert await store.transact(matching) == 4
        assert await store.transact(matching) == again
        await store.transact(lambda connection: subscriptions.insert(connection, newcomer, "gen_2"))
        assert await store.transact(matching) == 4
        assert await store.transact(matching) == again


async def statements_of_ten_events(standing):
    """Return what the store is asked while ten subscriptions of ``standing`` are sent their first event."""
    statements = []
    clock = SystemClock()

    async def send(_outgoing):
        return answered(clock)

    async with open_inline_store() as store:
        await subscribe(store, standing)
        async with open_rig(store, clock, send) as rig:
            await rig.publish("bench.nobody")  # the wildcards are read once
            await store.transact(lambda connection: connection.driver.set_trace_callback(statements.append))
            for n in range(10):
                await rig.publish(f"bench.t{n * standing // 10}")
                await trio.testing.wait_all_tasks_blocked()  # one at a time: outcomes could share a work
        assert await rig.statuses() == ["delivered"] * 10
    return statements


async def test_the_statements_of_an_event_are_as_many_however_many_subscriptions_stand(autojump_clock):
    few, many = await statements_of_ten_events(10), await statements_of_ten_events(MANY)
    assert len([one for one in many if "subscription_patterns" in one]) == 10
    assert len(many) == len(few)


@pytest.mark.parametrize(
    ("look", "found"),
    [
        (recovery.waiting_lanes, lambda one: (one[0].id, one[1])),
        (recovery.deleted_with_rest, lambda one: (one, 7)),
    ],
)
async def test_a_look_for_what_others_left_brings_only_those_for_whom_something_waits(look, found):
    class Reading(list):
        """What a statement found, and nothing of it is left in the database."""

        def scalars(self):
            return [row[0] for row in self]

    def looking(connection):
        if look is recovery.deleted_with_rest:
            connection.execute(sa.update(tables.subscriptions).values(active=False, deleted_at=1))
        connection.execute(
            sa.insert(tables.deliveries),
            {
                "id": "del_1", "event_id": "evt_1", "event_cursor": 1, "event_type": "bench.t500",
                "subscription_id": "sub_000500", "status": "pending", "attempts": 0, "max_attempts": 3,
                "created_at": 7, "next_attempt_at": 7,
            },
        )  # fmt: skip
        rows = []

        class Looking:
            def execute(self, statement):
                rows.extend(connection.execute(statement))
                return Reading(rows)

        return [found(one) for one in look(Looking())], len(rows)

    async with open_inline_store() as store:
        await subscribe(store, 1000)
        assert await store.transact(looking) == ([("sub_000500", 7)], 1)


class Headers(dict):
    """A subscription's headers, which count how often a request is made of them."""

    def __init__(self, made):
        super().__init__({"X-Tenant": "a"})
        self._made = made

    def items(self):
        self._made.append(1)
        return super().items()


class Receiving:
    """Takes prepared requests and answers 204."""

    def __init__(self):
        self.hosts = set()

    async def post(self, target, head, body, sink, *, connect_timeout=None):
        self.hosts.add(target.host)
        assert b"X-Tenant: a\r\n" in head
        sink.begin(204, ())


async def send_to_all(sender, receivers):
    for one in receivers:
        assert (await sender.send(outgoing(one))).succeeded


async def test_a_request_is_prepared_once_a_subscription_though_subscriptions_are_read_anew():
    count = MANY + 2000
    made, receiving = [], Receiving()
    sender = Sender(receiving, WebhookSettings(), SystemClock())
    headers = Headers(made)
    first = [subscription(f"http://r{n}.example/", id=f"sub_{n}", headers=headers) for n in range(count)]
    await send_to_all(sender, first)
    assert len(made) == len(receiving.hosts) == count

    again = [attrs.evolve(one) for one in first]
    read_first = weakref.ref(first[0])
    first.clear()
    await send_to_all(sender, again)
    assert len(made) == count
    assert read_first() is None  # and is not kept twice


async def test_beyond_its_bytes_a_sender_prepares_anew():
    made = []
    sender = Sender(Receiving(), WebhookSettings(), SystemClock(), max_prepared_bytes=1)
    headers = Headers(made)
    two = [subscription(f"http://r{n}.example/", id=f"sub_{n}", headers=headers) for n in range(2)]
    await send_to_all(sender, [two[0], two[0], *two, *two])
    assert len(made) == 4
