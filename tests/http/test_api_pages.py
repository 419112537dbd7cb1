"""Pages and queries: opaque cursors that are ours or none, and every flaw of a query at once."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.api.paging import Cursors, PageOf
from econeura_daemon.api.queries import parse_query
from econeura_daemon.core.errors import InvalidInputError
from tests.support.api_world import open_stored_world

LISTS = [
    "/v1/events",
    "/v1/webhooks/subscriptions",
    "/v1/webhooks/deliveries",
    "/v1/events/e-0/deliveries",
]


@pytest.fixture
async def world(tmp_path):
    async with open_stored_world(tmp_path) as opened:
        for number in range(5):
            await opened.post(
                "/v1/webhooks/subscriptions", {"url": f"https://r{number}.example/", "events": ["*"]}
            )
        for number in range(5):
            await opened.post("/v1/events", {"type": "a.b", "data": {}, "id": f"e-{number}"})
        yield opened


async def walk(world, path, limit):
    seen, cursor, pages = [], "", 0
    while True:
        join = "&" if "?" in path else "?"
        answer = await world.client.get(f"{path}{join}limit={limit}{cursor}")
        assert answer.status_code == 200, answer.text
        page = answer.json()["data"]
        pages += 1
        seen += [item["id"] for item in page["items"]]
        if page["nextCursor"] is None:
            return seen, pages
        cursor = f"&cursor={page['nextCursor']}"


@pytest.mark.parametrize("path", LISTS)
async def test_pages_of_any_size_add_up_to_the_whole_list(world, path):
    whole, _ = await walk(world, path, 250)
    assert len(whole) == (25 if path == "/v1/webhooks/deliveries" else 5)
    for limit in (1, 2, 5, 7):
        assert (await walk(world, path, limit))[0] == whole
    assert whole == sorted(whole, reverse=True)


@pytest.mark.parametrize("path", LISTS)
async def test_a_list_that_ends_with_its_page_has_no_next_cursor(world, path):
    total = len((await walk(world, path, 250))[0])
    assert (await walk(world, path, total))[1] == 1


async def test_a_cursor_of_another_list_or_with_other_filters_is_a_400(world):
    page = (await world.client.get("/v1/events?limit=1&type=a.*")).json()["data"]
    cursor = page["nextCursor"]
    assert (await world.client.get(f"/v1/events?type=a.*&limit=3&cursor={cursor}")).status_code == 200
    for path in ("/v1/events?", "/v1/events?type=a.b&", "/v1/webhooks/deliveries?"):
        answer = await world.client.get(f"{path}cursor={cursor}")
        assert answer.status_code == 400
        assert answer.json()["details"][0]["path"] == "?cursor"


@pytest.mark.parametrize("path", LISTS)
async def test_a_cursor_that_was_not_issued_here_is_a_400(world, path):
    for cursor in ("x", "%20", "a" * 1024, "a" * 1025, "AAAAAAAAAAAAAAAAAAAAAAEx", "%C3%A9", "=", ""):
        answer = await world.client.get(f"{path}?cursor={cursor}")
        assert answer.status_code == 400, cursor
        assert answer.json()["details"][0]["path"] == "?cursor"


async def test_cursors_outlive_a_restart(tmp_path):
    async with open_stored_world(tmp_path) as world:
        for number in range(3):
            await world.post("/v1/events", {"type": "a", "data": {}, "id": str(number)})
        cursor = (await world.client.get("/v1/events?limit=1")).json()["data"]["nextCursor"]
    async with open_stored_world(tmp_path) as world:
        page = (await world.client.get(f"/v1/events?cursor={cursor}")).json()["data"]
        assert [event["id"] for event in page["items"]] == ["1", "0"]


async def test_a_changed_bit_makes_a_cursor_foreign(world):
    cursors: Cursors = world.services.cursors
    page = PageOf("/v1/events", (("type", "a"),))
    issued = await cursors.issue(page, 7)
    assert await cursors.read(page, issued, int) == 7
    with pytest.raises(InvalidInputError):
        await cursors.read(page, issued, str)
    for place in range(len(issued)):
        changed = issued[:place] + ("A" if issued[place] != "A" else "B") + issued[place + 1 :]
        with pytest.raises(InvalidInputError):
            await cursors.read(page, changed, int)


async def test_filters_in_another_order_are_the_same_list():
    assert PageOf("/", (("a", "1"), ("b", "2"))).binding() == PageOf("/", (("b", "2"), ("a", "1"))).binding()
    assert PageOf("/", (("a", "1"),)).binding() != PageOf("/", (("a", "2"),)).binding()


async def test_all_flaws_of_a_query_are_told_at_once_with_a_suggestion(world):
    answer = await world.client.get("/v1/events?tpye=a&limit=0&since=yesterday&limit=3&until=2026-01-01")
    assert answer.status_code == 400
    told = {flaw["path"]: flaw["message"] for flaw in answer.json()["details"]}
    assert set(told) == {"?tpye", "?limit", "?since", "?until"}
    assert "did you mean 'type'?" in told["?tpye"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=251", "limit=3&limit=3",
        "limit=-1", "limit=1e3", "limit=", "limit=%D9%A1", "limit=+5", "type=*.a", "type=",
        "since=2026-01-01T00:00:00", "since=2026-13-01T00:00:00Z", "since=0001-01-01T00:00:00%2B23:59",
        "type=%FF", "%FF=1", "a=" + "x" * 9000, "&".join(f"p{n}=1" for n in range(70)),
    ],
)  # fmt: skip
async def test_a_query_that_does_not_fit_is_a_400(world, query):
    assert (await world.client.get(f"/v1/events?{query}")).status_code == 400


async def test_a_plus_in_an_instant_need_not_be_percent_encoded(world):
    for text in ("2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00%2B01:00"):
        assert (await world.client.get(f"/v1/events?since={text}")).status_code == 200


async def test_deliveries_are_filtered(world):
    async def count(query):
        return len((await walk(world, f"/v1/webhooks/deliveries?{query}", 250))[0])

    one = (await world.client.get("/v1/webhooks/deliveries?limit=1")).json()["data"]["items"][0]
    assert await count(f"subscriptionId={one['subscriptionId']}") == 5
    assert await count(f"eventId={one['eventId']}") == 5
    assert await count("status=pending") == 25
    assert await count("status=failed") == 0
    assert await count("eventType=a.b") == 25
    assert await count("eventType=a.c") == 0
    assert await count("since=2026-11-24T01:00:00Z") == 25
    assert await count("since=2026-11-24T03:00:00Z") == 0
    refused = await world.client.get("/v1/webhooks/deliveries?status=faild")
    assert "did you mean 'failed'?" in refused.json()["details"][0]["message"]


@given(st.binary(max_size=200))
def test_no_query_string_raises_anything_but_invalid_input(raw):
    from econeura_daemon.api.routes import GROUPS

    for group in GROUPS:
        for route in group.all:
            if route.query is not None:
                with suppress(InvalidInputError):
                    parse_query(raw, route.query)
