"""Subscriptions changed while deliveries are under way: what is owed to whom, and what a late answer may do."""

from datetime import timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.events import PublishEvent
from econeura_daemon.events import publisher as publishing
from econeura_daemon.webhooks.commands import RetryPolicyBody
from econeura_daemon.webhooks.sender import Sender
from tests.support.clocks import TrioClock
from tests.support.inline_store import open_inline_store
from tests.support.rig import answered, open_rig

QUICK = RetryPolicyBody(max_retries=3, schedule=(1000, 2000, 4000))


@pytest.fixture
async def store():
    async with open_inline_store() as opened:
        yield opened


async def test_a_late_410_of_an_old_url_does_not_disable_the_subscription_at_its_new_one(
    store, autojump_clock
):
    clock, may_answer = TrioClock(), trio.Event()

    async def send(outgoing):
        await may_answer.wait()
        return answered(clock, 410)

    async with open_rig(store, clock, send) as rig:
        key = await rig.subscribe(url="http://old.example/")
        await rig.publish()
        await wait_all_tasks_blocked()
        await rig.subscriptions.patch(key, {"url": "http://new.example/"})
        may_answer.set()
        await wait_all_tasks_blocked()
        subscription = await rig.subscriptions.get(key)
        assert (subscription.active, subscription.url) == (True, "http://new.example/")


async def test_disabling_for_a_webhook_event_makes_no_further_event(store, autojump_clock):
    """N subscriptions to webhook.* that are all gone would otherwise tell each other so, N² times."""
    clock, sent = TrioClock(), []

    async def send(outgoing):
        sent.append(outgoing.event_type)
        return answered(clock, 410)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe("order.*")
        for _ in range(5):
            await rig.subscribe("webhook.*")
        await rig.publish()
        await trio.sleep(60)
        assert len(await rig.log.page(type="webhook.*", limit=100)) == 1
    assert sorted(sent) == ["order.paid", *["webhook.subscription_disabled"] * 5]


async def test_an_attempt_to_a_deleted_subscription_is_not_left_as_started(store, autojump_clock):
    clock = TrioClock()

    async def send(_outgoing):
        await trio.sleep_forever()

    with trio.CancelScope() as killed:
        async with open_rig(store, clock, send) as rig:
            key = await rig.subscribe()
            await rig.publish()
            await wait_all_tasks_blocked()
            await rig.subscriptions.delete(key)
            delivery, attempts = await rig.only_delivery()
            killed.cancel()
    assert delivery.status == "canceled"
    assert [one.status for one in attempts] == ["unknown"]


async def test_a_deletion_that_was_cut_off_is_finished(store, autojump_clock, monkeypatch):
    clock = TrioClock()
    monkeypatch.setattr("econeura_daemon.webhooks.subscriptions.CANCEL_BATCH", 10)

    async def send(_outgoing):
        return answered(clock, 500)

    async with open_rig(store, clock, send) as rig:
        key = await rig.subscribe(retry_policy=RetryPolicyBody(max_retries=3, schedule=(3_600_000,)))
        await rig.publish(n=45)
        await trio.sleep(1)
        with trio.CancelScope() as cut:
            cut.cancel()
            await rig.subscriptions.delete(key)
        with trio.CancelScope() as cut:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.subscriptions.delete, key)
                while (await rig.statuses()).count("canceled") == 0:
                    await trio.lowlevel.checkpoint()
                cut.cancel()
        assert (await rig.statuses()).count("retrying") > 0
        await rig.subscriptions.finish_deletions()
        assert await rig.statuses() == ["canceled"] * 45
        assert (await rig.deliveries.stats())["pendingDeliveries"] == 0


async def test_a_deleted_subscription_keeps_no_secret(store, autojump_clock):
    clock = TrioClock()

    async def send(_outgoing):
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        key = await rig.subscribe(secret="a secret that nobody may find")
        await rig.subscriptions.delete(key)
        kept = await store.read(
            lambda connection: (
                connection.execute(sa.text("SELECT secrets FROM subscriptions")).scalars().all()
            )
        )
    assert kept == ["[]"]


async def test_a_subscription_without_a_secret_is_signed_with_the_daemons_own_whichever_it_is(
    store, autojump_clock
):
    clock, signed = TrioClock(), []
    first, second = WebhookSettings(secret="first of all"), WebhookSettings(secret="second of all")

    class Recording:
        async def handle_async_request(self, request):
            signed.append(request.headers["x-webhook-signature"])
            raise ConnectionError

    sender = Sender(Recording(), first, clock)
    async with open_rig(store, clock, sender.send, settings=first) as rig:
        key = await rig.subscribe(retry_policy=RetryPolicyBody(max_retries=0))
        subscription = await rig.subscriptions.get(key)
        assert rig.subscriptions.secret_of(subscription) == "first of all"
        (one,) = await rig.publish()
        await wait_all_tasks_blocked()
        sender.use(second)
        (two,) = await rig.publish()
        await wait_all_tasks_blocked()
        bodies = [(await rig.log.get(event_id)).body for event_id in (one, two)]
    assert signed == [
        "sha256=" + hmac_hex(secret, body)
        for secret, body in zip(("first of all", "second of all"), bodies, strict=True)
    ]


def hmac_hex(secret, body):
    import hashlib
    import hmac

    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def test_a_batch_that_would_hold_everybody_up_is_refused_whole(store, autojump_clock, monkeypatch):
    clock = TrioClock()
    monkeypatch.setattr(publishing, "MAX_DELIVERIES", 10)

    async def send(_outgoing):
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        for _ in range(4):
            await rig.subscribe()
        with pytest.raises(InvalidInputError, match="publish fewer at once"):
            await rig.publish(n=3)
        assert await rig.statuses() == []
        assert rig.lanes.statistics().in_flight == 0, "slots of what was undone came back"
        await rig.publish(n=2)
        await wait_all_tasks_blocked()
        assert await rig.statuses() == ["delivered"] * 8


async def test_a_delivery_whose_event_is_gone_fails_alone(store, autojump_clock):
    clock, sent = TrioClock(), []

    async def send(outgoing):
        sent.append(outgoing.event_type)
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe("a", max_in_flight=1)
        await rig.subscribe("b", max_in_flight=1)
        rig.lanes.close()
        (gone,) = await rig.publish("a")
        await rig.publish("a")
        await rig.publish("b")
        await store.transact(
            lambda connection: connection.execute(sa.text("DELETE FROM events WHERE id = :id"), {"id": gone})
        )
        rig.lanes.open()
        rig.dispatcher.wake()
        await trio.sleep(30)
        assert await rig.statuses() == ["delivered", "delivered", "failed"]
        stats = await rig.deliveries.stats()
    assert sorted(sent) == ["a", "b"]
    assert (stats["failedDeliveries"], stats["pendingDeliveries"]) == (1, 0)


async def test_a_claim_that_fails_by_a_bug_leaves_the_lanes_in_order(store, autojump_clock):
    clock = TrioClock()

    async def send(_outgoing):
        return answered(clock)

    async def broken(_work):
        raise ZeroDivisionError

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe()
        rig.lanes.close()
        await rig.publish(n=3)
        rig.lanes.open()
        whole, rig.dispatcher._store = rig.dispatcher._store, Broken(store)
        with pytest.raises(ZeroDivisionError):
            await rig.dispatcher.claim_loop()
        assert rig.lanes.statistics().in_flight == 0
        rig.dispatcher._store = whole
        rig.dispatcher.wake()
        await trio.sleep(10)
        assert await rig.statuses() == ["delivered"] * 3


class Broken:
    def __init__(self, store):
        self._store = store

    async def transact(self, _work):
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    def __getattr__(self, name):
        return getattr(self._store, name)


async def test_a_delivery_that_takes_the_daemon_with_it_does_so_once_more_and_then_fails(
    store, autojump_clock
):
    clock = TrioClock()

    async def hang(_outgoing):
        await trio.sleep_forever()

    async def die(run):
        from econeura_daemon.core.errors import StoreUnavailableError

        with trio.CancelScope() as killed:
            async with open_rig(store, clock, hang, run_id=run) as rig:
                if run == "run_0":
                    await rig.subscribe(retry_policy=RetryPolicyBody(max_retries=1))
                    await rig.publish()
                await wait_all_tasks_blocked()
                assert len(rig.dispatcher.under_way) == 1
                store.trouble = StoreUnavailableError("gone")
                killed.cancel()
        store.trouble = None

    for n in range(3):
        await die(f"run_{n}")
    async with open_rig(store, clock, hang, run_id="run_3") as rig:
        await wait_all_tasks_blocked()
        delivery, attempts = await rig.only_delivery()
        stats = await rig.deliveries.stats()
    assert (delivery.status, [one.status for one in attempts]) == ("failed", ["unknown"] * 3)
    assert (stats["failedDeliveries"], stats["pendingDeliveries"]) == (1, 0)


async def test_setting_the_wall_clock_back_leaves_due_what_was_due(store, autojump_clock):
    from econeura_daemon.core.clock import ForwardClock

    wall, at = TrioClock(), []
    clock = ForwardClock(wall, trio.current_time)

    async def send(outgoing):
        at.append(trio.current_time())
        return answered(wall, 500)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe(retry_policy=QUICK)
        rig.lanes.close()
        await rig.publish()
        wall.step(timedelta(hours=-1))
        rig.lanes.open()
        rig.dispatcher.wake()
        await trio.sleep(60)
        assert len(at) == 4, "at once, and then by its schedule"
        assert all(later - earlier >= 0.8 for earlier, later in pairwise(at))


async def test_events_of_one_publisher_all_have_their_own_id(store, autojump_clock):
    clock = TrioClock()

    async def send(_outgoing):
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        with pytest.raises(InvalidInputError, match="the same id"):
            await rig.publisher.publish([PublishEvent(type="a", data={}, id="x")] * 2)
        assert await rig.log.page(limit=10) == []
