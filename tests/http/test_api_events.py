"""Publishing events and reading them back, over the real app and a real store."""

import pytest
import trio

from tests.support.api_world import open_stored_world


@pytest.fixture
async def world(tmp_path):
    async with open_stored_world(tmp_path) as opened:
        yield opened


async def subscribe(world, *patterns):
    answer = await world.post(
        "/v1/webhooks/subscriptions", {"url": "https://receiver.example/hook", "events": list(patterns)}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


async def test_a_published_event_is_answered_202_and_reads_back_as_it_came(world):
    answer = await world.post("/v1/events", {"type": "order.paid", "data": {"id": 7, "big": 2**70}})
    assert answer.status_code == 202
    data = answer.json()["data"]
    assert data == {"id": data["id"], "deliveries": 0}
    event = (await world.client.get(f"/v1/events/{data['id']}")).json()["data"]
    assert event["type"] == "order.paid"
    assert event["data"] == {"id": 7, "big": 2**70}
    assert (event["source"], event["version"]) == ("api", "1.0.0")
    assert event["timestamp"].startswith("2026-11-24T02:00:0")


async def test_the_answer_counts_the_subscriptions_that_are_owed_the_event(world):
    await subscribe(world, "order.*")
    await subscribe(world, "*")
    await subscribe(world, "invoice.paid")
    answer = await world.post("/v1/events", {"type": "order.paid", "data": {}})
    assert answer.json()["data"]["deliveries"] == 2
    path = f"/v1/events/{answer.json()['data']['id']}/deliveries"
    deliveries = (await world.client.get(path)).json()["data"]
    assert len(deliveries["items"]) == 2
    assert {one["eventType"] for one in deliveries["items"]} == {"order.paid"}


async def test_an_id_that_is_kept_already_answers_200_and_makes_no_new_delivery(world):
    await subscribe(world, "*")
    first = await world.post("/v1/events", {"type": "a", "data": {}, "id": "mine"})
    again = await world.post("/v1/events", {"type": "b", "data": {"x": 1}, "id": "mine"})
    assert first.status_code == 202
    assert again.status_code == 200
    told = again.json()["data"]
    assert (told["id"], told["deliveries"], told["duplicate"]) == ("mine", 1, True)
    kept = (await world.client.get("/v1/events/mine")).json()["data"]
    assert {name: told[name] for name in kept} == kept
    assert (await world.counts())["deliveries"] == 1


async def test_a_batch_is_stored_whole_or_not_at_all(world):
    events = [{"type": "a", "data": {}}, {"type": "b", "data": {}, "id": "kept"}]
    answer = await world.post("/v1/events/batch", {"events": events})
    assert answer.status_code == 202
    items = answer.json()["data"]["items"]
    assert [one["duplicate"] for one in items] == [False, False]
    assert items[1]["id"] == "kept"
    refused = await world.post("/v1/events/batch", {"events": [*events, {"type": "UPPER", "data": {}}, 5]})
    assert refused.status_code == 400
    assert [flaw["path"] for flaw in refused.json()["details"]] == ["$.events[2].type", "$.events[3]"]
    assert (await world.counts())["events"] == 2


async def test_events_are_listed_newest_first_and_filtered_by_pattern_and_time(world):
    for kind in ("a.one", "b.one", "a.two"):
        await world.post("/v1/events", {"type": kind, "data": {}})

    async def types(query):
        answer = await world.client.get(f"/v1/events{query}")
        assert answer.status_code == 200, answer.text
        return [event["type"] for event in answer.json()["data"]["items"]]

    assert await types("") == ["a.two", "b.one", "a.one"]
    assert await types("?type=a.*") == ["a.two", "a.one"]
    assert await types("?since=2020-01-01T00:00:00Z&until=2021-01-01T00:00:00Z") == []
    assert await types("?since=2020-01-01T00:00:00+01:00") == ["a.two", "b.one", "a.one"]


@pytest.mark.parametrize("event_id", ["a/b", "per%cent", "q?uery", "#", "a/b/deliveries/c"])
async def test_an_event_is_found_by_whatever_id_its_publisher_gave(world, event_id):
    from urllib.parse import quote

    answer = await world.post("/v1/events", {"type": "a", "data": {}, "id": event_id})
    assert answer.status_code == 202
    found = await world.client.get(f"/v1/events/{quote(event_id, safe='')}")
    assert found.json()["data"]["id"] == event_id


async def test_the_publishers_trace_context_is_kept_with_the_event(world):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await world.client.post(
        "/v1/events",
        json={"type": "a", "data": {}},
        headers={"traceparent": parent, "tracestate": "vendor=1"},
    )
    assert answer.status_code == 202

    def trace(connection):
        import sqlalchemy as sa

        return connection.execute(sa.text("SELECT trace FROM events")).scalar_one()

    assert await world.services.store.read(trace) == f"{parent}\nvendor=1"


async def test_paging_over_concurrent_inserts_has_no_gap_and_no_repeat(world):
    for number in range(30):
        await world.post("/v1/events", {"type": "old", "data": {}, "id": f"old-{number}"})
    seen, cursor = [], ""
    async with trio.open_nursery() as nursery:
        done = trio.Event()

        async def write():
            number = 0
            while not done.is_set():
                await world.post("/v1/events", {"type": "new", "data": {}, "id": f"new-{number}"})
                number += 1

        nursery.start_soon(write)
        while True:
            page = (await world.client.get(f"/v1/events?limit=4{cursor}")).json()["data"]
            seen += [event["id"] for event in page["items"]]
            if page["nextCursor"] is None:
                break
            cursor = f"&cursor={page['nextCursor']}"
        done.set()
    old = [one for one in seen if one.startswith("old")]
    assert old == [f"old-{number}" for number in reversed(range(30))]
    assert len(seen) == len(set(seen))
