"""`kill -9` at random moments under load: what was answered with 202 is delivered, whatever happens.

A real daemon is killed over and over in the middle of publishing and delivering, on one store that lives on. The
receiver and the publishers stand outside and keep their own books; at the end the books must agree:

- every event that was answered with 202 has arrived, under its own webhook-id, with the same bytes each time;
- every request that arrived has an attempt on record: the attempt was written before its bytes went out;
- attempts that were under way when the daemon died show as unknown, and none is left as started.
"""

from collections import Counter
from contextlib import suppress
from random import Random

import pytest
import trio

from tests.support.daemon import RunningDaemon, open_running_daemon, write_config
from tests.support.http_client import Client, GoneError
from tests.support.receiver import open_receiver
from tests.support.waiting import until

POLICY = {"maxRetries": 8, "schedule": [50, 100, 200, 400]}


class Books:
    """What the publishers were told."""

    def __init__(self):
        self.accepted = []
        self.has_more = trio.Event()


async def publish_until_it_dies(daemon: RunningDaemon, books: Books, rng: Random) -> None:
    """Publish singly and in batches, a few at a time, until the daemon answers no more."""

    async def publisher():
        with suppress(GoneError):
            async with daemon.client() as client:
                while True:
                    n = rng.choice((1, 1, 1, 20))
                    events = [{"type": "load.test", "data": {"n": i}} for i in range(n)]
                    if n == 1:
                        answer = await client.post("/v1/events", events[0])
                    else:
                        answer = await client.post("/v1/events/batch", {"events": events})
                    assert answer.status == 202, answer.body
                    books.accepted += [item["id"] for item in answer.data.get("items", [answer.data])]
                    books.has_more.set()

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(publisher)


async def nothing_pends(client: Client) -> bool:
    return not (await client.get("/v1/webhooks/stats")).data["pendingDeliveries"]


async def all_deliveries(client: Client) -> list[dict]:
    found, cursor = [], None
    while True:
        query = {"limit": 250} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/webhooks/deliveries", query)).data
        found += page["items"]
        cursor = page["nextCursor"]
        if cursor is None:
            return found


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def storage(request):
    """The configuration of a store that is empty."""
    if request.param == "sqlite":
        return ""
    return f'[storage]\nurl = "{request.getfixturevalue("postgres_url")}"\n'


@pytest.mark.rounds(short=4, soak=110)
@pytest.mark.timeout(1800)
@pytest.mark.slow
async def test_nothing_that_was_accepted_is_lost_to_kill_9(tmp_path, storage, rounds):
    rng = Random(20261124)
    books = Books()

    async def answer(_received):
        await trio.sleep(rng.uniform(0, 0.03))
        return 500 if rng.random() < 0.05 else 204

    config = write_config(tmp_path / "state", extra=storage)
    async with open_receiver(answer) as receiver:
        async with open_running_daemon(config) as daemon, daemon.client() as client:
            created = await client.post(
                "/v1/webhooks/subscriptions",
                {"url": receiver.url, "events": ["load.*"], "maxInFlight": 40, "retryPolicy": POLICY},
            )
            assert created.status == 201, created.body
        for _ in range(rounds):
            async with open_running_daemon(config) as daemon, trio.open_nursery() as nursery:
                books.has_more = trio.Event()
                nursery.start_soon(publish_until_it_dies, daemon, books, rng)
                await books.has_more.wait()
                await trio.sleep(rng.uniform(0, 0.7))  # the random moment
                daemon.kill()
                assert await daemon.wait() == -9
        async with open_running_daemon(config) as daemon, daemon.client() as client:
            await until(lambda: nothing_pends(client), 120)
            deliveries = await all_deliveries(client)
            attempts = Counter()
            for delivery in deliveries:
                if delivery["attempts"] != 1 or rng.random() < 0.05:
                    shown = await client.get(f"/v1/webhooks/deliveries/{delivery['id']}")
                    log = shown.data["attemptLog"]
                    attempts.update(one["status"] for one in log)
                    assert [one["number"] for one in log] == list(range(1, delivery["attempts"] + 1))
            daemon.terminate()
            assert await daemon.wait() == 0

    assert len(books.accepted) >= 20 * rounds, "the load was too small to prove anything"
    assert set(books.accepted) <= receiver.ids()
    assert all(delivery["status"] == "delivered" for delivery in deliveries)
    assert set(books.accepted) <= {delivery["eventId"] for delivery in deliveries}
    assert len(deliveries) == len({delivery["eventId"] for delivery in deliveries})
    assert attempts["unknown"] > 0
    assert attempts["started"] == 0

    bodies, requests = {}, Counter()
    for one in receiver.received:
        assert bodies.setdefault(one.headers["webhook-id"], one.body) == one.body
        requests[one.headers["x-webhook-delivery"]] += 1
    on_record = {delivery["id"]: delivery["attempts"] for delivery in deliveries}
    assert all(on_record[delivery] >= count for delivery, count in requests.items())
