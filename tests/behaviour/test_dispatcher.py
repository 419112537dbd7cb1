"""The dispatcher's behaviour in time. Everything runs in the loop under an autojumping clock: the store is the
real SQLite engine run in line, the receiver a function of the test's. Nothing here waits for real."""

from datetime import timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.core.errors import StoreUnavailableError
from econeura_daemon.core.settings import RetrySettings, WebhookSettings
from econeura_daemon.webhooks.commands import RetryPolicyBody
from tests.support.clocks import TrioClock
from tests.support.inline_store import open_inline_store
from tests.support.rig import answered, failed, open_rig


@pytest.fixture
async def store():
    async with open_inline_store() as opened:
        yield opened


QUICK = RetryPolicyBody(max_retries=3, schedule=(1000, 2000, 4000))


async def test_an_event_reaches_each_subscription_that_wants_it_once(store, autojump_clock):
    clock, got = TrioClock(), []

    async def send(outgoing):
        got.append((outgoing.subscription.id, outgoing.event_type))
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        exact = await rig.subscribe("order.paid")
        below = await rig.subscribe("order.*")
        everything = await rig.subscribe("*", "order.*", "order.paid")
        await rig.subscribe("invoice.*", "order", "order.paid.late")
        await rig.publish("order.paid")
        await wait_all_tasks_blocked()
        assert sorted(got) == sorted((key, "order.paid") for key in (exact, below, everything))
        assert await rig.statuses() == ["delivered"] * 3


async def test_a_wildcard_does_not_match_its_own_prefix(store, autojump_clock):
    clock, got = TrioClock(), []

    async def send(outgoing):
        got.append(outgoing.event_type)
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe("workers.*")
        for event_type in ("workers", "workers.a", "workers.a.b", "workersx.a"):
            await rig.publish(event_type)
        await wait_all_tasks_blocked()
    assert sorted(got) == ["workers.a", "workers.a.b"]


async def test_the_attempt_is_in_the_store_before_the_receiver_is_called(store, autojump_clock):
    clock, seen = TrioClock(), []

    async def send(outgoing):
        delivery, attempts = await rig.deliveries.get(outgoing.delivery_id)
        seen.append((delivery.status, delivery.attempts, [one.status for one in attempts]))
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe()
        await rig.publish()
        await wait_all_tasks_blocked()
    assert seen == [("delivering", 1, ["started"])]


async def test_a_failed_delivery_is_tried_again_as_its_policy_says_and_then_given_up(store, autojump_clock):
    clock, at = TrioClock(), []

    async def send(outgoing):
        at.append(trio.current_time())
        return answered(clock, 500)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe(retry_policy=QUICK)
        await rig.publish()
        await trio.sleep(60)
        delivery, attempts = await rig.only_delivery()
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert len(at) == 4
    assert all(0.8 * want <= wait <= 1.2 * want + 0.1 for wait, want in zip(waits, (1, 2, 4), strict=True))
    assert (delivery.status, delivery.attempts, delivery.max_attempts) == ("failed", 4, 4)
    assert delivery.next_attempt_at is None
    assert [(one.number, one.status, one.status_code) for one in attempts] == [
        (n, "failed", 500) for n in (1, 2, 3, 4)
    ]


async def test_attempts_that_fail_in_one_pass_all_wait_as_their_policy_says(store, autojump_clock):
    clock, at = TrioClock(), []

    async def send(_outgoing):
        at.append(trio.current_time())
        return answered(clock, 500)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe(retry_policy=QUICK)
        await rig.publish(n=3)
        await trio.sleep(60)
    assert len(at) == 3 * 4
    assert at[:3] == [at[0]] * 3
    assert min(at[3:]) - at[0] >= 0.8


async def test_a_delivery_that_comes_through_in_the_end_is_delivered(store, autojump_clock):
    clock, outcomes = TrioClock(), [500, 503, 204]

    async def send(outgoing):
        return answered(clock, outcomes.pop(0))

    async with open_rig(store, clock, send) as rig:
        key = await rig.subscribe(retry_policy=QUICK)
        await rig.publish()
        await wait_all_tasks_blocked()
        delivery, _ = await rig.only_delivery()
        assert (delivery.status, delivery.response_code) == ("retrying", 500)
        assert delivery.next_attempt_at is not None
        assert (await rig.subscriptions.get(key)).failure_count == 1
        await trio.sleep(60)
        delivery, attempts = await rig.only_delivery()
        assert (delivery.status, delivery.attempts, delivery.last_error) == ("delivered", 3, None)
        assert [one.status for one in attempts] == ["failed", "failed", "succeeded"]
        assert (await rig.subscriptions.get(key)).failure_count == 0


async def test_a_subscription_has_no_more_attempts_under_way_than_it_allows(store, autojump_clock):
    clock, now, most = TrioClock(), 0, 0

    async def send(outgoing):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await trio.sleep(1)
        now -= 1
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe(max_in_flight=3)
        await rig.publish(n=20)
        await trio.sleep(30)
        assert await rig.statuses() == ["delivered"] * 20
    assert most == 3


async def test_all_subscriptions_together_have_no_more_attempts_than_the_limit(store, autojump_clock):
    clock, now, most = TrioClock(), 0, 0

    async def send(outgoing):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await trio.sleep(1)
        now -= 1
        return answered(clock)

    async with open_rig(store, clock, send, settings=WebhookSettings(max_in_flight=4)) as rig:
        for _ in range(6):
            await rig.subscribe()
        await rig.publish(n=5)
        await trio.sleep(60)
        assert await rig.statuses() == ["delivered"] * 30
    assert most == 4


async def test_dead_subscriptions_do_not_delay_a_live_one(store, autojump_clock):
    """Forty black holes, each with a backlog, against one limit of sixteen."""
    clock, late = TrioClock(), []

    async def send(outgoing):
        if outgoing.event_type == "dead":
            await trio.sleep(15)
            return failed(clock, "no answer within 15000 ms")
        late.append(trio.current_time() - published)
        return answered(clock)

    async with open_rig(store, clock, send, settings=WebhookSettings(max_in_flight=16)) as rig:
        for _ in range(40):
            await rig.subscribe("dead")
        await rig.subscribe("live")
        await rig.publish("dead", n=20)
        await trio.sleep(120)  # by then it is known who is dead
        for _ in range(50):
            published = trio.current_time()
            await rig.publish("live")
            await trio.sleep(1.03)
    assert len(late) == 50
    assert max(late) < 0.01


async def test_a_410_disables_the_subscription_and_says_so_to_others(store, autojump_clock):
    clock, got = TrioClock(), []

    async def send(outgoing):
        got.append((outgoing.subscription.id, outgoing.event_type))
        return answered(clock, 410 if outgoing.subscription.id == gone else 200)

    async with open_rig(store, clock, send) as rig:
        gone = await rig.subscribe("*")
        other = await rig.subscribe("webhook.*")
        await rig.publish()
        await wait_all_tasks_blocked()
        subscription = await rig.subscriptions.get(gone)
        assert (subscription.active, subscription.disabled_reason) == (
            False,
            "the receiver answered 410 Gone",
        )
        assert subscription.last_delivery_at is not None
        await rig.publish()
        await wait_all_tasks_blocked()
    assert got == [(gone, "order.paid"), (other, "webhook.subscription_disabled")]


async def test_leaving_the_block_waits_for_attempts_under_way(store, autojump_clock):
    clock, done = TrioClock(), []

    async def send(outgoing):
        await trio.sleep(60)
        done.append(outgoing.delivery_id)
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe()
        await rig.publish(n=3)
        await wait_all_tasks_blocked()
        assert len(rig.dispatcher.under_way) == 3
    assert len(done) == 3
    assert await rig.statuses() == ["delivered"] * 3


async def test_an_attempt_that_the_drain_cuts_off_leaves_no_trace_and_costs_nothing(store, autojump_clock):
    clock = TrioClock()

    async def send(outgoing):
        await trio.sleep(60)
        raise AssertionError("cut off before")

    async with open_rig(store, clock, send, drain_until=lambda: trio.current_time() + 5) as rig:
        await rig.subscribe()
        await rig.publish()
        await wait_all_tasks_blocked()
        left = trio.current_time()
    assert trio.current_time() - left == pytest.approx(5)
    delivery, attempts = await rig.only_delivery()
    assert (delivery.status, delivery.attempts, attempts) == ("pending", 0, [])
    assert delivery.next_attempt_at is not None

    async def send_again(outgoing):
        return answered(clock)

    async with open_rig(store, clock, send_again, run_id="run_2"):
        await wait_all_tasks_blocked()
    delivery, attempts = await rig.only_delivery()
    assert (delivery.status, [one.number for one in attempts]) == ("delivered", [1])


async def test_a_retry_that_the_drain_cuts_off_is_still_a_retry(store, autojump_clock):
    clock, tries = TrioClock(), []

    async def send(outgoing):
        tries.append(outgoing.number)
        if len(tries) == 2:
            await trio.sleep(60)
        return answered(clock, 500)

    async with open_rig(store, clock, send, drain_until=trio.current_time) as rig:
        await rig.subscribe(retry_policy=QUICK)
        await rig.publish()
        await trio.sleep(10)
        assert tries == [1, 2]
    delivery, attempts = await rig.only_delivery()
    assert (delivery.status, delivery.attempts, len(attempts)) == ("retrying", 1, 1)


async def test_nothing_new_is_claimed_once_the_drain_has_begun(store, autojump_clock):
    clock, got = TrioClock(), []

    async def send(outgoing):
        got.append(outgoing.delivery_id)
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe()
        rig.dispatcher.drain()
        await rig.publish()
        await trio.sleep(100)
        assert await rig.statuses() == ["pending"]
    assert got == []


async def test_what_a_dead_run_had_under_way_shows_as_unknown_and_is_sent_again(store, autojump_clock):
    clock, got = TrioClock(), []

    async def hang(outgoing):
        await trio.sleep_forever()

    async def send(outgoing):
        got.append((outgoing.event_id, outgoing.number))
        return answered(clock)

    with trio.CancelScope() as killed:
        async with open_rig(store, clock, hang) as rig:
            await rig.subscribe()
            (event_id,) = await rig.publish()
            await wait_all_tasks_blocked()
            store.trouble = StoreUnavailableError("gone")  # a killed process writes nothing any more
            killed.cancel()
    store.trouble = None
    async with open_rig(store, clock, send, run_id="run_2") as rig:
        await wait_all_tasks_blocked()
        delivery, attempts = await rig.only_delivery()
    assert got == [(event_id, 2)]
    assert delivery.status == "delivered"
    assert [(one.number, one.status) for one in attempts] == [(1, "unknown"), (2, "succeeded")]


async def test_the_last_attempt_being_unknown_does_not_end_a_delivery_unsent(store, autojump_clock):
    clock, got = TrioClock(), []

    async def hang(outgoing):
        await trio.sleep_forever()

    async def send(outgoing):
        got.append(outgoing.number)
        return answered(clock)

    with trio.CancelScope() as killed:
        async with open_rig(store, clock, hang) as rig:
            await rig.subscribe(retry_policy=RetryPolicyBody(max_retries=0))
            await rig.publish()
            await wait_all_tasks_blocked()
            store.trouble = StoreUnavailableError("gone")
            killed.cancel()
    store.trouble = None
    async with open_rig(store, clock, send, run_id="run_2"):
        await wait_all_tasks_blocked()
    assert got == [2]


async def test_an_outcome_waits_for_a_store_that_refuses(store, autojump_clock):
    clock = TrioClock()

    async def send(outgoing):
        store.trouble = StoreUnavailableError("the disk is away")
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe()
        await rig.publish()
        await trio.sleep(20)
        assert len(rig.dispatcher.under_way) == 1
        store.trouble = None
        await trio.sleep(10)
        assert await rig.statuses() == ["delivered"]


async def test_a_claim_that_the_store_refuses_is_made_again_later(store, autojump_clock):
    clock, outcomes = TrioClock(), [500, 200]

    async def send(outgoing):
        return answered(clock, outcomes.pop(0))

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe(retry_policy=QUICK)
        await rig.publish()
        await wait_all_tasks_blocked()
        store.trouble = StoreUnavailableError("the disk is away")
        await trio.sleep(10)
        assert outcomes == [200]
        store.trouble = None
        await trio.sleep(10)
        assert await rig.statuses() == ["delivered"]


async def test_a_bug_in_the_sender_is_a_failed_attempt_and_hurts_nobody_else(store, autojump_clock, caplog):
    clock = TrioClock()

    async def send(outgoing):
        if outgoing.event_type == "bad":
            raise ZeroDivisionError
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe(retry_policy=QUICK)
        await rig.publish("bad")
        await rig.publish("good")
        await trio.sleep(60)
        assert await rig.statuses() == ["delivered", "failed"]
    assert "ZeroDivisionError" in caplog.text


async def test_an_outcome_that_cannot_be_written_takes_along_neither_the_others_nor_its_slot(
    store, autojump_clock, caplog
):
    clock, heard = TrioClock(), []

    class Listening:
        def attempted(self, outgoing, *_):
            heard.append(outgoing.body)

    async def send(outgoing):
        headers = {"x": object()} if b'"n":1' in outgoing.body else {}
        return answered(clock, response_headers=headers)

    async with open_rig(store, clock, send, observer=Listening()) as rig:
        await rig.subscribe()
        await rig.publish(n=3)  # all three end in one pass
        await wait_all_tasks_blocked()
        assert await rig.statuses() == ["delivered", "delivered", "delivering"]
        assert [b'"n":1' in body for body in heard] == [False, False]
        assert not rig.dispatcher.under_way
    assert caplog.text.count("an attempt went unrecorded") == 1


async def test_a_paused_subscription_keeps_what_waits_and_gets_it_when_it_is_active_again(
    store, autojump_clock
):
    clock, got = TrioClock(), []

    async def send(outgoing):
        got.append(outgoing.event_type)
        return answered(clock, 200 if len(got) > 1 else 500)

    async with open_rig(store, clock, send) as rig:
        key = await rig.subscribe(retry_policy=QUICK)
        await rig.publish("first")
        await wait_all_tasks_blocked()
        await rig.subscriptions.patch(key, {"active": False})
        await rig.publish("missed")
        await trio.sleep(100)
        assert got == ["first"]
        assert await rig.statuses() == ["retrying"]
        await rig.subscriptions.patch(key, {"active": True})
        await trio.sleep(1)
        assert got == ["first", "first"]
        assert await rig.statuses() == ["delivered"]


async def test_deleting_a_subscription_cancels_what_is_owed_to_it(store, autojump_clock):
    clock = TrioClock()

    async def send(outgoing):
        await trio.sleep(5)
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        key = await rig.subscribe(max_in_flight=2)
        await rig.publish(n=10)
        await wait_all_tasks_blocked()
        await rig.subscriptions.delete(key)
        assert await rig.statuses() == ["canceled"] * 10
        await trio.sleep(100)
        assert await rig.statuses() == ["canceled"] * 10
        assert (await rig.deliveries.stats())["pendingDeliveries"] == 0
        ended = [len((await rig.deliveries.get(one.id))[1]) for one in await rig.deliveries.page(limit=10)]
        assert sorted(ended) == [0] * 8 + [1, 1]


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(hours=-1)])
async def test_a_step_of_the_wall_clock_loses_no_retry_and_makes_no_burst(store, autojump_clock, step):
    clock, at = TrioClock(), []

    async def send(outgoing):
        at.append(outgoing.number)
        return answered(clock, 500)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe(retry_policy=QUICK)
        await rig.publish()
        await wait_all_tasks_blocked()
        clock.step(step)
        await trio.sleep(3700 if step < timedelta() else 60)
        assert at == [1, 2, 3, 4]
        assert await rig.statuses() == ["failed"]


async def test_the_inherited_retry_settings_make_an_exponential_schedule(store, autojump_clock):
    clock, at = TrioClock(), []

    async def send(outgoing):
        at.append(trio.current_time())
        return answered(clock, 500)

    settings = WebhookSettings(retry=RetrySettings(max_attempts=4, delay_ms=1000))
    async with open_rig(store, clock, send, settings=settings) as rig:
        await rig.subscribe()
        await rig.publish()
        await trio.sleep(100)
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert all(0.8 * want <= wait <= 1.2 * want + 0.1 for wait, want in zip(waits, (1, 2, 4), strict=True))


async def test_a_claim_that_nobody_works_on_is_freed(store, autojump_clock):
    """A commit whose fate is unknown may leave one; two looks in a row find it."""
    clock, got = TrioClock(), []

    async def send(outgoing):
        got.append(outgoing.number)
        return answered(clock)

    async with open_rig(store, clock, send) as rig:
        await rig.subscribe()
        rig.lanes.close()
        await rig.publish()
        rig.lanes.open()
        await store.transact(
            lambda connection: connection.execute(
                sa.text(
                    "UPDATE deliveries SET status = 'delivering', attempts = 1, claimed_by = 'dmn_1/run_1'"
                )
            )
        )
        await trio.sleep(300)
        assert await rig.statuses() == ["delivered"]
    assert got == [2]
