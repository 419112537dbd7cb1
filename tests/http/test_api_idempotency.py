"""The idempotency contract: one deed a key, one answer a key, and neither without the other."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.api.idempotency import MAX_KEPT_BYTES
from econeura_daemon.core.errors import OutcomeUnknownError, StoreUnavailableError
from econeura_daemon.core.settings import HttpSettings, Settings
from econeura_daemon.server import ALL_SCOPES, Principal
from econeura_daemon.storage.idempotency import SWEEP
from tests.support.api_world import open_stored_world, open_world
from tests.support.held_stores import Gate, Queue
from tests.support.inline_store import open_inline_store

EVENT = {"type": "order.paid", "data": {"n": 1}}
SUBSCRIPTION = {"url": "https://receiver.example/hook", "events": ["*"]}
SERVICE = {"type": "workers", "host": "127.0.0.1", "port": 4001, "ttlMs": 60_000}
POSTS = [
    ("/v1/services", SERVICE, {**SERVICE, "port": 4002}),
    ("/v1/events", EVENT, {"type": "other", "data": {}}),
    ("/v1/events/batch", {"events": [EVENT, EVENT]}, {"events": [EVENT]}),
    ("/v1/webhooks/subscriptions", SUBSCRIPTION, {**SUBSCRIPTION, "events": ["a"]}),
]


@pytest.fixture
async def world(tmp_path):
    async with open_stored_world(tmp_path) as opened:
        yield opened


def row_counts(counts):
    return {name: count for name, count in counts.items() if name != "idempotency_keys"}


@pytest.mark.parametrize(("path", "body", "_"), POSTS)
async def test_the_same_key_and_body_give_the_first_answer_again_and_store_nothing_more(world, path, body, _):
    first = await world.post(path, body, idempotency_key="k 1")
    counted = await world.counts()
    again = await world.post(path, body, idempotency_key="k 1")
    assert first.status_code in {201, 202}
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert await world.counts() == counted


@pytest.mark.parametrize(("path", "body", "other"), POSTS)
async def test_the_same_key_with_another_body_is_a_422_and_stores_nothing(world, path, body, other):
    await world.post(path, body, idempotency_key="k")
    counted = await world.counts()
    refused = await world.post(path, other, idempotency_key="k")
    assert refused.status_code == 422
    assert refused.json()["type"] == "/problems/idempotency-mismatch"
    assert await world.counts() == counted


async def test_a_duplicate_event_is_remembered_as_the_duplicate_it_was(world):
    await world.post("/v1/events", {**EVENT, "id": "mine"})
    first = await world.post("/v1/events", {**EVENT, "id": "mine"}, idempotency_key="k")
    again = await world.post("/v1/events", {**EVENT, "id": "mine"}, idempotency_key="k")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json()["data"]["duplicate"] is True
    assert again.content == first.content


async def test_a_key_belongs_to_its_route(world):
    for path, body, _ in POSTS:
        answer = await world.post(path, body, idempotency_key="shared")
        assert answer.status_code in {201, 202}
        assert "Idempotent-Replayed" not in answer.headers


async def test_a_key_belongs_to_its_token(tmp_path):
    class Tokens:
        def authenticate(self, text, now):
            return Principal(text, ALL_SCOPES)

    async with open_stored_world(tmp_path, tokens=Tokens()) as world:
        for token in ("eco_one", "eco_two"):
            answer = await world.post(
                "/v1/events", EVENT, idempotency_key="k", authorization=f"Bearer {token}"
            )
            assert "Idempotent-Replayed" not in answer.headers
        assert (await world.counts())["events"] == 2


async def test_a_key_counts_for_24_hours(world):
    first = await world.post("/v1/events", EVENT, idempotency_key="k")
    world.clock.shift += timedelta(hours=23, minutes=59)
    assert (await world.post("/v1/events", EVENT, idempotency_key="k")).content == first.content
    world.clock.shift += timedelta(minutes=2)
    later = await world.post("/v1/events", {"type": "other", "data": {}}, idempotency_key="k")
    assert later.status_code == 202
    assert "Idempotent-Replayed" not in later.headers
    assert row_counts(await world.counts())["events"] == 2


async def test_old_keys_are_forgotten_as_new_ones_come_in(world):
    old = 3 * SWEEP
    for number in range(old):
        await world.post("/v1/events", EVENT, idempotency_key=f"old-{number}")
    world.clock.shift += timedelta(hours=25)
    for number in range(3):
        await world.post("/v1/events", EVENT, idempotency_key=f"new-{number}")
    assert (await world.counts())["idempotency_keys"] == 3


async def test_while_the_first_is_under_way_the_second_is_a_409_that_may_come_back():
    async with open_inline_store() as store:
        gate = Gate(store)
        async with open_world(gate, registry_on=store) as world, trio.open_nursery() as nursery:
            answers = []

            async def first():
                answers.append(await world.post("/v1/events", EVENT, idempotency_key="k"))

            nursery.start_soon(first)
            await wait_all_tasks_blocked()
            second = await world.post("/v1/events", EVENT, idempotency_key="k")
            assert second.status_code == 409
            assert second.json()["type"] == "/problems/idempotency-in-flight"
            assert second.headers["Retry-After"] == "1"
            assert gate.arrived == 1
            gate.open.set()
            await wait_all_tasks_blocked()
            third = await world.post("/v1/events", EVENT, idempotency_key="k")
            assert third.headers["Idempotent-Replayed"] == "true"
            assert third.content == answers[0].content


async def test_of_twenty_at_once_one_does_the_deed(world):
    answers = []

    async def post():
        answers.append(await world.post("/v1/events", EVENT, idempotency_key="k"))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(post)
    assert {answer.status_code for answer in answers} <= {202, 409}
    told = {answer.json()["data"]["id"] for answer in answers if answer.status_code == 202}
    assert len(told) == 1
    assert (await world.counts())["events"] == 1


async def test_when_the_transaction_is_undone_neither_deed_nor_key_stays_and_a_retry_does_it():
    async with open_inline_store() as store:
        gate = Gate(store)
        gate.open.set()
        async with open_world(gate) as world:
            for path, body, _ in POSTS:
                before = await world.counts()

                def crash(_connection):
                    raise StoreUnavailableError("the disk is gone, at /secret/path")

                gate.after = crash
                failed = await world.post(path, body, idempotency_key="k")
                assert failed.status_code == 503
                assert failed.json()["type"] == "/problems/store-unavailable"
                assert "secret" not in failed.text
                assert await world.counts() == before
                gate.after = None
                retried = await world.post(path, body, idempotency_key="k")
                assert retried.status_code in {201, 202}
                assert "Idempotent-Replayed" not in retried.headers


async def test_a_deed_whose_outcome_was_unknown_is_found_by_the_retry():
    async with open_inline_store() as store:

        class Forgetful(Gate):
            async def _gated(self, commit, work):
                result = await commit(work)
                if self.after is not None:
                    raise OutcomeUnknownError("gone")
                return result

        gate = Forgetful(store)
        gate.after = True
        async with open_world(gate, registry_on=store) as world:
            lost = await world.post("/v1/events", EVENT, idempotency_key="k")
            assert lost.status_code == 500
            assert lost.json()["type"] == "/problems/outcome-unknown"
            assert "may be stored" in lost.json()["detail"]
            gate.after = None
            again = await world.post("/v1/events", EVENT, idempotency_key="k")
            assert again.headers["Idempotent-Replayed"] == "true"
            assert (await world.counts())["events"] == 1


async def test_a_request_whose_client_left_is_done_once_and_answered_to_the_retry():
    async with open_inline_store() as store, trio.open_nursery() as works:
        queue = Queue(store, works)
        async with open_world(queue) as world:
            answers = []

            async def post():
                answers.append(await world.post("/v1/events", EVENT, idempotency_key="k"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(post)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(post)
                await wait_all_tasks_blocked()
                assert queue.arrived == 2
                queue.open.set()
            [answer] = answers
            assert answer.status_code == 202
            assert answer.headers["Idempotent-Replayed"] == "true"
            assert (await world.counts())["events"] == 1


async def test_two_daemons_on_one_store_do_the_deed_once():
    async with open_inline_store() as store:
        gates = [Gate(store), Gate(store)]
        async with (
            open_world(gates[0], registry_on=store) as one,
            open_world(gates[1], registry_on=store) as other,
        ):
            answers = []

            async def post(world):
                answers.append(await world.post("/v1/events", EVENT, idempotency_key="k"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(post, one)
                nursery.start_soon(post, other)
                await wait_all_tasks_blocked()  # both looked, and both found nothing
                for gate in gates:
                    gate.open.set()
            assert sorted(answer.headers.get("Idempotent-Replayed", "") for answer in answers) == ["", "true"]
            assert answers[0].content == answers[1].content
            assert (await one.counts())["events"] == 1


async def test_what_was_refused_is_not_remembered(world):
    refused = await world.post("/v1/events", {"type": "BAD", "data": {}}, idempotency_key="k")
    assert refused.status_code == 400
    assert (await world.post("/v1/events", EVENT, idempotency_key="k")).status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "caf\u00e9"])
async def test_a_key_that_cannot_be_used_is_a_400_and_stores_nothing(world, key):
    answer = await world.client.post(
        "/v1/events", json=EVENT, headers=[(b"Idempotency-Key", key.encode("latin-1"))]
    )
    assert answer.status_code == 400
    assert answer.json()["details"][0]["path"] == "Idempotency-Key"
    assert (await world.counts())["events"] == 0


async def test_a_key_of_255_characters_can_be_used_and_two_keys_cannot(world):
    assert (await world.post("/v1/events", EVENT, idempotency_key="~" * 255)).status_code == 202
    twice = await world.client.post(
        "/v1/events", json=EVENT, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    )
    assert twice.status_code == 400


async def test_an_answer_over_64_kib_is_not_kept_but_the_deed_is_not_repeated(world):
    headers = {f"X-Filler-{number}": "x" * 4000 for number in range(20)}
    body = {**SUBSCRIPTION, "headers": headers}
    first = await world.post("/v1/webhooks/subscriptions", body, idempotency_key="k")
    assert first.status_code == 201, first.text
    assert len(first.content) > MAX_KEPT_BYTES
    again = await world.post("/v1/webhooks/subscriptions", body, idempotency_key="k")
    assert again.status_code == 409
    assert again.json()["type"] == "/problems/conflict"
    assert (await world.counts())["subscriptions"] == 1


async def test_of_events_only_ids_and_counts_are_kept(world):
    await world.post("/v1/events", {"type": "a", "data": {"long": "x" * 5000}}, idempotency_key="k")

    def kept(connection):
        return connection.execute(sa.text("SELECT response FROM idempotency_keys")).scalar_one()

    assert len(await world.services.store.read(kept)) < 100


async def test_a_batch_of_a_thousand_long_ids_is_replayed_whole(tmp_path):
    settings = Settings(http=HttpSettings(max_body_bytes=4 * 1024 * 1024))
    async with open_stored_world(tmp_path, settings=settings) as world:
        events = [{**EVENT, "id": f"{number:0128d}"} for number in range(1000)]
        first = await world.post("/v1/events/batch", {"events": events}, idempotency_key="k")
        again = await world.post("/v1/events/batch", {"events": events}, idempotency_key="k")
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.content == first.content
        assert len(again.json()["data"]["items"]) == 1000
