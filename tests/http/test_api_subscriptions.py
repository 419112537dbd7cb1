"""Subscriptions and deliveries over the API."""

import pytest

from econeura_daemon.core.settings import Settings, WebhookSettings
from tests.support.api_world import open_stored_world

URL = "https://receiver.example/hook"
COLLECTION = "/v1/webhooks/subscriptions"


@pytest.fixture
async def world(tmp_path):
    async with open_stored_world(tmp_path) as opened:
        yield opened


async def create(world, **more):
    answer = await world.post(COLLECTION, {"url": URL, "events": ["order.*"], **more})
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


async def test_the_secret_is_shown_when_it_is_made_and_masked_ever_after(world):
    made = await create(world)
    assert made["secret"].startswith("whsec_")
    one = (await world.client.get(f"{COLLECTION}/{made['id']}")).json()["data"]
    listed = (await world.client.get(COLLECTION)).json()["data"]["items"]
    patched = (await world.client.patch(f"{COLLECTION}/{made['id']}", json={"active": False})).json()["data"]
    for shown in (one, listed[0], patched):
        assert shown["id"] == made["id"]
        assert shown["secret"] == "whsec_***"
        assert made["secret"] not in str(shown)


async def test_a_secret_of_the_daemons_own_signs_where_none_is_given(tmp_path):
    settings = Settings(webhooks=WebhookSettings(secret="whsec_" + "MDEy" * 10))
    async with open_stored_world(tmp_path, settings=settings) as world:
        assert (await create(world))["secret"] == settings.webhooks.secret


async def test_a_patch_changes_what_it_names_and_null_takes_back_to_the_default(world):
    made = await create(world, description="mine", maxInFlight=3)
    path = f"{COLLECTION}/{made['id']}"
    patched = (await world.client.patch(path, json={"events": ["a", "b.*"], "description": None})).json()[
        "data"
    ]
    assert (patched["events"], patched["description"], patched["maxInFlight"]) == (["a", "b.*"], None, 3)
    assert (await world.client.get(path)).json()["data"] == patched
    refused = await world.client.patch(path, json={"evnts": ["a"], "url": "ftp://x"})
    assert refused.status_code == 400
    assert {flaw["path"] for flaw in refused.json()["details"]} == {"$.evnts", "$.url"}
    assert (await world.client.get(path)).json()["data"] == patched
    assert (await world.client.patch(path, json={"url": None})).status_code == 400


async def test_a_paused_subscription_is_owed_nothing_new(world):
    made = await create(world)
    await world.client.patch(f"{COLLECTION}/{made['id']}", json={"active": False})
    answer = await world.post("/v1/events", {"type": "order.paid", "data": {}})
    assert answer.json()["data"]["deliveries"] == 0


async def test_a_deleted_subscription_is_gone_and_its_pending_deliveries_are_canceled(world):
    made = await create(world)
    event = (await world.post("/v1/events", {"type": "order.paid", "data": {}})).json()["data"]
    deleted = await world.client.delete(f"{COLLECTION}/{made['id']}")
    assert (deleted.status_code, deleted.json()["data"]) == (200, {"id": made["id"], "deleted": True})
    for method in ("GET", "DELETE", "PATCH"):
        answer = await world.client.request(method, f"{COLLECTION}/{made['id']}", json={})
        assert answer.status_code == 404, method
    assert (await world.client.get(COLLECTION)).json()["data"]["items"] == []
    deliveries = (await world.client.get(f"/v1/events/{event['id']}/deliveries")).json()["data"]["items"]
    assert [one["status"] for one in deliveries] == ["canceled"]


async def test_a_single_delivery_shows_its_attempts(world):
    await create(world)
    await world.post("/v1/events", {"type": "order.paid", "data": {}})
    listed = (await world.client.get("/v1/webhooks/deliveries")).json()["data"]["items"]
    one = (await world.client.get(f"/v1/webhooks/deliveries/{listed[0]['id']}")).json()["data"]
    assert one.pop("attemptLog") == []
    assert one == listed[0]


async def test_stats_count_subscriptions_and_deliveries(world):
    made = await create(world)
    await create(world, active=False)
    await world.post("/v1/events", {"type": "order.paid", "data": {}})
    stats = (await world.client.get("/v1/webhooks/stats")).json()["data"]
    assert (stats["totalSubscriptions"], stats["activeSubscriptions"]) == (2, 1)
    assert (stats["totalDeliveries"], stats["pendingDeliveries"]) == (1, 1)
    await world.client.delete(f"{COLLECTION}/{made['id']}")
    stats = (await world.client.get("/v1/webhooks/stats")).json()["data"]
    assert (stats["totalSubscriptions"], stats["pendingDeliveries"]) == (1, 0)
