"""Several daemons on one PostgreSQL: claims are leases, and each delivery has one daemon at a time.

Real time and a real server: leases live in the database's own clock. Nothing sleeps for luck; every wait is for
a fact that the test then asserts.
"""

from collections import Counter
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
import trio

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.settings import StorageSettings, WebhookSettings
from econeura_daemon.storage import open_store
from econeura_daemon.webhooks.commands import RetryPolicyBody
from tests.support.rig import answered, open_rig
from tests.support.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

LEASE = WebhookSettings(lease_ms=2000)
CLOCK = SystemClock()


@asynccontextmanager
async def open_daemon_like(postgres_url, tmp_path, daemon_id, send):
    async with (
        open_store(StorageSettings(url=postgres_url), tmp_path) as store,
        open_rig(store, CLOCK, send, daemon_id=daemon_id, settings=LEASE) as rig,
    ):
        yield rig


async def hang(_outgoing):
    await trio.sleep_forever()


async def test_what_a_dead_daemon_held_is_sent_by_another_once_its_lease_lapsed(postgres_url, tmp_path):
    got = []

    async def send(outgoing):
        got.append((outgoing.delivery_id, outgoing.number))
        return answered(CLOCK)

    async with open_store(StorageSettings(url=postgres_url), tmp_path) as store:
        severed = Severed(store)
        async with open_rig(
            severed, CLOCK, hang, daemon_id="dmn_a", settings=LEASE, drain_until=trio.current_time
        ) as dying:
            await dying.subscribe()
            await dying.publish()
            severed.connected = trio.Event()  # from now on it renews nothing, as the dead do
            async with open_daemon_like(postgres_url, tmp_path, "dmn_b", send) as other:
                await until(lambda: delivered(other, 1))
                delivery, attempts = await other.only_delivery()
            severed.connected.set()
        assert await other_store_agrees(store, delivery.id)
    assert got == [(delivery.id, 2)]
    assert [one.status for one in attempts] == ["unknown", "succeeded"]


async def other_store_agrees(store, delivery_id):
    """The one that came back from the dead gave back a claim that it did not hold any more: nothing changed."""
    row = await store.read(
        lambda connection: connection.execute(
            sa.text("SELECT status, attempts FROM deliveries WHERE id = :id"), {"id": delivery_id}
        ).one()
    )
    return tuple(row) == ("delivered", 2)


class Severed:
    """A store whose writes hang while it is not connected."""

    def __init__(self, store):
        self._store = store
        self.connected = trio.Event()
        self.connected.set()

    async def transact(self, work):
        await self.connected.wait()
        return await self._store.transact(work)

    def __getattr__(self, name):
        return getattr(self._store, name)


async def delivered(rig, n):
    return (await rig.deliveries.stats())["deliveredDeliveries"] >= n


async def test_a_living_daemon_keeps_its_claims_for_longer_than_a_lease(postgres_url, tmp_path):
    async def slow(_outgoing):
        await trio.sleep(5)
        return answered(CLOCK)

    async def never(_outgoing):
        raise AssertionError("it was claimed by a daemon that lives")

    async with open_daemon_like(postgres_url, tmp_path, "dmn_a", slow) as holder:
        await holder.subscribe()
        await holder.publish()
        async with open_daemon_like(postgres_url, tmp_path, "dmn_b", never):
            await until(lambda: delivered(holder, 1))
        _, attempts = await holder.only_delivery()
    assert [one.status for one in attempts] == ["succeeded"]


async def test_two_daemons_share_a_backlog_and_send_each_delivery_once(postgres_url, tmp_path):
    sent, by = Counter(), Counter()

    def sender(name):
        async def send(outgoing):
            sent[outgoing.delivery_id] += 1
            by[name] += 1
            await trio.sleep(0.02)
            return answered(CLOCK)

        return send

    async with open_daemon_like(postgres_url, tmp_path, "dmn_seed", hang) as seed:
        seed.lanes.close()
        for _ in range(4):
            await seed.subscribe()
        await seed.publish(n=100)
    async with (
        open_daemon_like(postgres_url, tmp_path, "dmn_a", sender("a")) as one,
        open_daemon_like(postgres_url, tmp_path, "dmn_b", sender("b")),
    ):
        await until(lambda: delivered(one, 400), 60)
    assert len(sent) == 400
    assert set(sent.values()) == {1}
    assert min(by["a"], by["b"]) > 20


async def test_a_daemon_whose_lease_lapsed_cannot_overwrite_what_another_recorded(postgres_url, tmp_path):
    may_answer = trio.Event()

    async def late(_outgoing):
        await may_answer.wait()
        return answered(CLOCK, 500)

    async def quick(_outgoing):
        return answered(CLOCK)

    async with open_daemon_like(postgres_url, tmp_path, "dmn_a", late) as sleepy:
        await sleepy.subscribe(retry_policy=RetryPolicyBody(max_retries=5, schedule=(50,)))
        await sleepy.publish()
        await sleepy.store.transact(
            lambda connection: connection.execute(sa.text("UPDATE deliveries SET lease_until = 0"))
        )
        async with open_daemon_like(postgres_url, tmp_path, "dmn_b", quick) as other:
            await until(lambda: delivered(other, 1))
            may_answer.set()
            await until(lambda: idle(sleepy))
            delivery, attempts = await other.only_delivery()
            stats = await other.deliveries.stats()
    assert delivery.status == "delivered"
    assert [one.status for one in attempts] == ["failed", "succeeded"]
    assert (stats["deliveredDeliveries"], stats["failedDeliveries"], stats["pendingDeliveries"]) == (1, 0, 0)


async def idle(rig):
    return len(rig.dispatcher.under_way) == 0


async def test_an_event_of_one_daemon_wakes_those_who_follow_the_log_at_another(postgres_url, tmp_path):
    async def quick(_outgoing):
        return answered(CLOCK)

    async with (
        open_daemon_like(postgres_url, tmp_path, "dmn_a", quick) as one,
        open_daemon_like(postgres_url, tmp_path, "dmn_b", quick) as other,
    ):
        with other.log.watch() as watch, trio.fail_after(10):
            (event_id,) = await one.publish("a.b")
            while True:
                found, _ = await other.log.after(0, (), 10)
                if found:
                    break
                await watch.wait()
    assert [event.id for event in found] == [event_id]


async def test_a_subscription_made_at_one_daemon_is_owed_what_is_published_at_another(postgres_url, tmp_path):
    got = []

    async def send(outgoing):
        got.append(outgoing.event_type)
        return answered(CLOCK)

    async with (
        open_daemon_like(postgres_url, tmp_path, "dmn_a", send) as one,
        open_daemon_like(postgres_url, tmp_path, "dmn_b", send) as other,
    ):
        await one.publish("a.before")
        key = await other.subscribe("a.*")
        await one.publish("a.after")
        await until(lambda: delivered(one, 1))
        await other.subscriptions.delete(key)
        await one.publish("a.gone")
        assert (await one.deliveries.stats())["totalDeliveries"] == 1
    assert got == ["a.after"]
