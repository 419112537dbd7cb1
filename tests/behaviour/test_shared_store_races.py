"""Races between daemons on one PostgreSQL, each arranged so that it happens every time."""

from threading import Event

import pytest
import sqlalchemy as sa
import trio

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.settings import StorageSettings, WebhookSettings
from econeura_daemon.storage import open_store
from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.fan_out import Matcher
from econeura_daemon.webhooks.model import DeliveryStatus, Secret, Subscription
from econeura_daemon.webhooks.store import claims, recovery, subscriptions
from tests.support.inline_store import open_inline_store
from tests.support.rig import answered, open_rig
from tests.support.waiting import until

CLOCK = SystemClock()
LEASE_MS = 60_000
SHORT = WebhookSettings(lease_ms=2000)


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize("first", ["cancel", "record"])
async def test_deleting_here_and_recording_there_count_a_delivery_once(postgres_url, tmp_path, first):
    sent, held = [], Event()

    async def send(outgoing):
        sent.append(outgoing)
        await trio.sleep_forever()

    settings = StorageSettings(url=postgres_url)
    async with (
        open_store(settings, tmp_path) as here,
        open_store(settings, tmp_path) as there,
        open_rig(there, CLOCK, send, daemon_id="dmn_b", drain_until=trio.current_time) as rig,
    ):
        key = await rig.subscribe()
        await rig.publish()

        async def is_sent():
            return sent

        await until(is_sent)

        def cancel(connection):
            recovery.cancel_some(connection, key, 1000, Claimant("dmn_a", "run_1", LEASE_MS))
            hold(connection)

        def record(connection):
            claims.record(
                connection,
                [(sent[0], answered(CLOCK), DeliveryStatus.DELIVERED, None)],
                Claimant("dmn_b", "run_1", LEASE_MS),
            )
            hold(connection)

        def hold(connection):
            """Whoever is first keeps its rows until the other one waits for them."""
            if not held.is_set():
                connection.execute(sa.text("SELECT 1"))
                held.set()
                waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                while connection.execute(waiting).scalar_one() == 0:
                    pass

        works = {"cancel": (here, cancel), "record": (there, record)}
        second = "record" if first == "cancel" else "cancel"
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(works[first][0].transact, works[first][1])
                await trio.to_thread.run_sync(held.wait)
                nursery.start_soon(works[second][0].transact, works[second][1])
        delivery, _ = await rig.only_delivery()
        stats = await rig.deliveries.stats()
    assert delivery.status == {"cancel": "canceled", "record": "delivered"}[first]
    assert stats["pendingDeliveries"] == 0
    assert stats["deliveredDeliveries"] + stats["canceledDeliveries"] == 1


@pytest.mark.postgres
@pytest.mark.slow
async def test_ones_own_lapsed_lease_is_not_taken_for_a_dead_ones(postgres_url, tmp_path):
    """After a suspend of the machine every lease has lapsed, and every attempt is still under way."""
    sent, may_answer = [], trio.Event()

    async def send(outgoing):
        sent.append(outgoing.number)
        await may_answer.wait()
        return answered(CLOCK)

    async with (
        open_store(StorageSettings(url=postgres_url), tmp_path) as store,
        open_rig(store, CLOCK, send, settings=SHORT) as rig,
    ):
        await rig.subscribe()
        await rig.publish()
        looks = 0
        while looks < 40:  # two of its looks into the store, and some more
            await store.transact(
                lambda connection: connection.execute(sa.text("UPDATE deliveries SET lease_until = 0"))
            )
            await trio.sleep(0.12)
            looks += 1
        may_answer.set()

        async def is_idle():
            return not rig.dispatcher.under_way

        await until(is_idle)
        delivery, attempts = await rig.only_delivery()
    assert sent == [1]
    assert (delivery.status, [one.status for one in attempts]) == ("delivered", ["succeeded"])


async def test_what_a_transaction_read_that_was_undone_is_not_believed_later(autojump_clock):
    """Another daemon may have used the time to change subscriptions, and the same generation may come again."""
    matcher = Matcher()

    def subscribe(connection, name):
        one = Subscription(
            id=name,
            url="http://receiver.example/",
            patterns=("*",),
            secrets=(Secret("x"),),
            active=True,
            created_at=0,
            updated_at=0,
        )
        subscriptions.insert(connection, one, "the same generation")

    def match(connection):
        connection.on_rollback(matcher.forget)
        matcher.refresh(connection)
        return [one.id for one in matcher.match(connection, "a.b")]

    def undone(connection):
        subscribe(connection, "sub_1")
        assert match(connection) == ["sub_1"]
        raise ZeroDivisionError

    async with open_inline_store() as store:
        with pytest.raises(ZeroDivisionError):
            await store.transact(undone)
        await store.transact(lambda connection: subscribe(connection, "sub_2"))
        assert await store.transact(match) == ["sub_2"]
