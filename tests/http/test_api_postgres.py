"""The API over PostgreSQL, which is stricter than SQLite about text and shares its store among daemons."""

import pytest
import trio

from tests.support.api_world import open_stored_world

pytestmark = pytest.mark.postgres

ODD = ["\0", "a\0b", "\u2028", "\ufffe", "\U0010ffff", "\x7f", "'; DROP TABLE events; --", "x" * 3000]
SUBSCRIPTION = {"url": "https://receiver.example/", "events": ["*"]}


@pytest.fixture
async def world(tmp_path, postgres_url):
    async with open_stored_world(tmp_path, url=postgres_url) as opened:
        yield opened


@pytest.mark.parametrize("text", ODD)
async def test_no_text_in_any_place_is_a_5xx(world, text):
    bodies = [
        ("/v1/events", {"type": "a", "data": {text: text}}),
        *(
            ("/v1/events", {"type": "a", "data": {}, key: text})
            for key in ("id", "source", "version", "type")
        ),
        *(
            ("/v1/webhooks/subscriptions", {**SUBSCRIPTION, key: text})
            for key in ("url", "secret", "description")
        ),
        ("/v1/webhooks/subscriptions", {**SUBSCRIPTION, "headers": {"X-Odd": text}}),
        ("/v1/webhooks/subscriptions", {**SUBSCRIPTION, "events": [text]}),
    ]
    for path, body in bodies:
        answer = await world.post(path, body)
        assert answer.status_code < 500, (path, body, answer.text)
    for name in ("eventId", "subscriptionId", "eventType", "status", "since", "cursor", "limit"):
        answer = await world.client.get("/v1/webhooks/deliveries", params={name: text})
        assert answer.status_code < 500, (name, answer.text)
    for name in ("type", "since"):
        answer = await world.client.get("/v1/events", params={name: text})
        assert answer.status_code < 500, (name, answer.text)


async def test_numbers_at_the_ends_of_their_ranges_are_no_5xx(world):
    for text in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"):
        for path in ("/v1/events", "/v1/webhooks/deliveries"):
            assert (await world.client.get(path, params={"since": text})).status_code == 200
    head = await world.client.head(f"/v1/stream?after={2**63 - 1}")
    assert head.status_code == 200


async def test_two_daemons_over_one_store_do_a_keyed_deed_once_and_read_each_others_cursors(
    tmp_path, postgres_url
):
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    event = {"type": "a", "data": {}}
    async with (
        open_stored_world(tmp_path / "one", url=postgres_url) as one,
        open_stored_world(tmp_path / "other", url=postgres_url) as other,
    ):
        answers = []

        async def post(world):
            answers.append(await world.post("/v1/events", event, idempotency_key="k"))

        async with trio.open_nursery() as nursery:
            for world in (one, other) * 5:
                nursery.start_soon(post, world)
        assert {answer.status_code for answer in answers} <= {202, 409}
        assert len({answer.content for answer in answers if answer.status_code == 202}) == 1
        assert (await one.counts())["events"] == 1
        await one.post("/v1/events", event)
        cursor = (await one.client.get("/v1/events?limit=1")).json()["data"]["nextCursor"]
        page = await other.client.get(f"/v1/events?cursor={cursor}")
        assert len(page.json()["data"]["items"]) == 1


async def test_a_reading_of_the_log_is_bounded_in_bytes_and_its_newest_cursor_is_one_that_is_kept(world):
    log = world.services.log
    assert await log.bounds() == (0, 0)
    for size in (10, 1000, 1000, 5000):
        await world.post("/v1/events", {"type": f"t.{size}", "data": {"x": "x" * size}})
    events, cursor = await log.after(0, (), 100, max_bytes=1500)
    assert ([event.cursor for event in events], cursor) == ([1, 2], 2)
    events, cursor = await log.after(3, ("t.*",), 100, max_bytes=1500)
    assert ([event.type for event in events], cursor) == (["t.5000"], 4)
    assert await log.bounds() == (1, 4)
