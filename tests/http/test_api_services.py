"""Service discovery over HTTP: what the conventions' tests do not say already."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.api.routes.services import HOT
from econeura_daemon.core.settings import DiscoverySettings, Settings
from econeura_daemon.server import Peer, Request
from econeura_daemon.server.context import RequestContext
from tests.support.api_world import open_world
from tests.support.inline_store import open_inline_store

SERVICE = {"id": "w-1", "type": "workers", "host": "127.0.0.1", "port": 4001}


@pytest.fixture
async def world():
    async with open_inline_store() as store, open_world(store) as opened:
        yield opened


@pytest.fixture
async def off():
    settings = Settings(discovery=DiscoverySettings(enabled=False))
    async with open_inline_store() as store, open_world(store, settings=settings) as opened:
        yield opened


async def test_registering_is_201_then_200_and_the_same_key_gives_the_first_answer_again(world):
    first = await world.post("/v1/services", SERVICE, idempotency_key="k")
    assert first.status_code == 201
    again = await world.post("/v1/services", SERVICE, idempotency_key="k")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.json()["data"] == first.json()["data"]
    other = await world.post("/v1/services", {**SERVICE, "port": 4002}, idempotency_key="k")
    assert other.status_code == 422
    replaced = await world.post("/v1/services", {**SERVICE, "port": 4002})
    assert replaced.status_code == 200
    assert (await world.client.get("/v1/services/w-1")).json()["data"]["port"] == 4002


async def test_a_key_that_registered_without_an_id_names_the_one_that_was_made(world):
    body = {key: value for key, value in SERVICE.items() if key != "id"}
    made = [
        (await world.post("/v1/services", body, idempotency_key="k")).json()["data"]["id"] for _ in range(3)
    ]
    assert len(set(made)) == 1
    assert len((await world.client.get("/v1/services")).json()["data"]["items"]) == 1


async def test_with_neither_lease_nor_check_it_is_probed_at_health_and_a_status_is_ignored(
    world, autojump_clock
):
    answer = await world.post("/v1/services", {**SERVICE, "status": {"anything": 1}})
    data = answer.json()["data"]
    assert data["ttlMs"] is None
    assert data["check"] == {
        "kind": "http",
        "path": "/health",
        "intervalMs": 30_000,
        "timeoutMs": 5000,
        "unhealthyAfter": 3,
        "healthyAfter": 2,
    }
    assert (data["status"], data["statusReason"]) == ("unknown", "no probe has come back yet")
    await trio.sleep(1)
    index = (await world.client.get("/v1/services")).headers["x-econeura-index"]
    beat = await world.client.put("/v1/services/w-1/heartbeat")
    assert beat.status_code == 200
    assert beat.json()["data"] == {
        "id": "w-1",
        "status": "healthy",
        "ttlMs": None,
        "lastHeartbeat": "2026-11-24T02:00:01.000Z",
    }
    assert (await world.client.get("/v1/services")).headers["x-econeura-index"] == index


async def test_a_check_that_does_not_say_how_often_is_made_as_often_as_is_configured():
    settings = Settings(discovery=DiscoverySettings(health_check_interval_ms=7000))
    async with open_inline_store() as store, open_world(store, settings=settings) as world:
        for said, expected in (({}, 7000), ({"check": {}}, 7000), ({"check": {"intervalMs": 100}}, 100)):
            answer = await world.post("/v1/services", {**SERVICE, **said})
            assert answer.json()["data"]["check"]["intervalMs"] == expected


async def test_every_flaw_of_a_registration_is_told_at_once(world):
    flaws = {"type": 5, "port": 0, "check": {"path": "x", "healthyAfter": 0}, "endpoints": [{}], "tgas": []}
    answer = await world.post("/v1/services", {**SERVICE, **flaws})
    assert {one["path"] for one in answer.json()["details"]} == {
        "$.type",
        "$.port",
        "$.check.path",
        "$.check.healthyAfter",
        "$.endpoints[0].endpoint",
        "$.tgas",
    }


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"port": 0}, "$.port", "expected 1 to 65535"),
        ({"port": "80"}, "$.port", "integer"),
        ({"type": "calls"}, "$.type", "reserved"),
        ({"type": "Workers"}, "$.type", "a-z"),
        ({"host": "http://h"}, "$.host", "a name or an address alone"),
        ({"host": "[::1]"}, "$.host", "without brackets"),
        ({"host": ""}, "$.host", ""),
        ({"ttlMs": 99}, "$.ttlMs", "100"),
        ({"check": {"intervalMs": 99}}, "$.check.intervalMs", "100"),
        ({"check": {"kind": "udp"}}, "$.check.kind", "http"),
        ({"check": {"path": "health"}}, "$.check.path", "begins with /"),
        ({"check": {"every": 1}}, "$.check.every", "unknown"),
        ({"weight": 0}, "$.weight", "1"),
        ({"id": "a/b"}, "$.id", "A-Z"),
        ({"tags": ["a,b"]}, "$.tags[0]", "comma"),
        ({"metadata": {"a": "x" * 17_000}}, "$.metadata", "16384 bytes"),
        ({"endpoints": [{"endpoint": "x"}]}, "$.endpoints[0].endpoint", "begins with /"),
        ({"endpoints": [{"endpoint": "/x", "method": "get"}]}, "$.endpoints[0].method", "capitals"),
    ],
)
async def test_what_does_not_fit_is_told_with_its_path_and_what_would(world, change, path, words):
    answer = await world.post("/v1/services", {**SERVICE, **change})
    assert answer.status_code == 400
    details = {one["path"]: one["message"] for one in answer.json()["details"]}
    assert list(details) == [path], details
    assert words.lower() in details[path].lower()
    assert (await world.client.get("/v1/services")).json()["data"]["items"] == []


@pytest.mark.parametrize(
    "query", ["wait=5", "wait=11m", "wait=-1s", "index=-1", "index=x", "status=well", "tag="]
)
async def test_a_query_that_does_not_fit_is_a_400(world, query):
    answer = await world.client.get(f"/v1/services?{query}")
    assert answer.status_code == 400
    assert answer.json()["details"]


async def test_an_unknown_id_is_a_404_that_names_it(world):
    for method, below in (
        ("GET", ""), ("DELETE", ""), ("PUT", "/heartbeat"), ("PUT", "/drain"), ("DELETE", "/drain"),
        ("GET", "/endpoints"), ("PUT", "/endpoints"),
    ):  # fmt: skip
        body = [] if (method, below) == ("PUT", "/endpoints") else None
        answer = await world.client.request(method, f"/v1/services/gone{below}", json=body)
        assert answer.status_code == 404, (method, below)
        assert "gone" in answer.json()["detail"]


async def test_what_was_said_twice_or_in_another_spelling_is_shown_once_and_in_one(world):
    twice = [{"endpoint": "/x", "description": "first"}, {"endpoint": "/x", "description": "last"}]
    said = {**SERVICE, "host": "Bücher.Example", "tags": ["b", "a", "b"], "endpoints": twice}
    shown = (await world.post("/v1/services", said)).json()["data"]
    assert (shown["host"], shown["tags"]) == ("xn--bcher-kva.example", ["b", "a"])
    assert [one["description"] for one in shown["endpoints"]] == ["last"]
    assert shown["name"] == shown["id"] == "w-1"


async def test_a_list_is_ordered_by_id_and_chosen_by_type_status_and_tag(world, autojump_clock):
    for key, type_, tags in (("c", "web", ["x", "y"]), ("a", "web", ["x"]), ("b", "db", ["y"])):
        body = {"id": key, "type": type_, "host": "h", "port": 1, "tags": tags, "ttlMs": 3_600_000}
        await world.post("/v1/services", body)
    await world.client.put("/v1/services/c/drain")
    for query, expected in (
        ("", "abc"),
        ("type=web", "ac"),
        ("type=web&status=healthy", "a"),
        ("tag=y", "bc"),
        ("tag=y&status=draining&type=web", "c"),
        ("type=none", ""),
    ):
        data = (await world.client.get(f"/v1/services?{query}")).json()["data"]
        assert ("".join(one["id"] for one in data["items"]), data["nextCursor"]) == (expected, None), query


async def test_endpoints_are_found_over_all_instances_by_words_method_and_type(world):
    offered = {
        "w-1": ("workers", [("POST", "/emails/process", "Process one E-Mail"), ("GET", "/emails", "List")]),
        "d-1": ("db", [("GET", "/tables", "List all tables")]),
    }
    for key, (type_, endpoints) in offered.items():
        said = [{"method": how, "endpoint": path, "description": what} for how, path, what in endpoints]
        await world.post("/v1/services", {**SERVICE, "id": key, "type": type_, "endpoints": said})
    for query, expected in (
        ("", ["/tables", "/emails/process", "/emails"]),
        ("method=get", ["/tables", "/emails"]),
        ("description=LIST", ["/tables", "/emails"]),
        ("description=e-mail", ["/emails/process"]),
        ("type=workers", ["/emails/process", "/emails"]),
        ("type=workers&method=GET&description=list", ["/emails"]),
        ("type=db&method=POST", []),
    ):
        items = (await world.client.get(f"/v1/endpoints?{query}")).json()["data"]["items"]
        assert [one["endpoint"] for one in items] == expected, query


async def test_what_befalls_an_instance_is_owed_to_subscriptions_like_any_other_event(world, autojump_clock):
    subscribed = {"url": "https://r.example/", "events": ["service.status_changed", "service.deregistered"]}
    assert (await world.post("/v1/webhooks/subscriptions", subscribed)).status_code == 201
    await world.post("/v1/services", SERVICE)
    await trio.sleep(1)
    await world.client.delete("/v1/services/w-1")
    owed = (await world.client.get("/v1/webhooks/deliveries")).json()["data"]["items"]
    assert [one["eventType"] for one in owed] == ["service.deregistered", "service.status_changed"]


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [(None, 300), ("0s", 0), ("500ms", 0.5), ("30s", 30), ("2m", 120), ("600s", 600), ("10m", 600)],
)
async def test_a_long_poll_waits_as_long_as_it_was_asked_to(world, autojump_clock, wait, seconds):
    index = (await world.client.get("/v1/services")).headers["x-econeura-index"]
    began = trio.current_time()
    asked = {"index": index} if wait is None else {"index": index, "wait": wait}
    answer = await world.client.get("/v1/services", params=asked)
    assert (answer.status_code, answer.headers["x-econeura-index"]) == (200, index)
    assert trio.current_time() - began == pytest.approx(seconds, abs=0.01)


async def test_a_long_poll_ends_at_its_wait_with_the_same_index_or_at_a_change_with_a_later_one(
    world, autojump_clock
):
    await world.post("/v1/services", {**SERVICE, "ttlMs": 3_600_000})
    index = (await world.client.get("/v1/services?type=workers")).headers["x-econeura-index"]
    began = trio.current_time()
    answer = await world.client.get(f"/v1/services?type=workers&index={index}&wait=30s")
    assert 30 <= trio.current_time() - began < 31
    assert answer.headers["x-econeura-index"] == index
    answers = []

    async def poll():
        answers.append(await world.client.get(f"/v1/services?type=workers&index={index}&wait=10m"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        await trio.sleep(5)
        await world.client.put("/v1/services/w-1/heartbeat")
        await world.post("/v1/services", {**SERVICE, "id": "d-1", "type": "db", "ttlMs": 3_600_000})
        await trio.sleep(5)
        assert answers == []
        await world.client.put("/v1/services/w-1/drain")
    assert [one["status"] for one in answers[0].json()["data"]["items"]] == ["draining"]
    assert int(answers[0].headers["x-econeura-index"]) > int(index)


async def test_a_long_poll_gives_its_slot_back(world, autojump_clock):
    limit = world.services.settings.http.max_concurrent_requests
    index = (await world.client.get("/v1/services")).headers["x-econeura-index"]
    waiting, statuses = limit * 2 + 5, []

    async def poll():
        answer = await world.client.get(f"/v1/services?index={index}&wait=10m")
        statuses.append(answer.status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(waiting):
            nursery.start_soon(poll)
        await wait_all_tasks_blocked()
        assert statuses == []
        assert (await world.client.get("/v1/events")).status_code == 200
        assert (await world.post("/v1/services", SERVICE)).status_code == 201
    assert statuses == [200] * waiting


async def test_switched_off_every_route_is_a_404_that_names_the_setting(off):
    document = (await off.client.get("/openapi.json")).json()
    for method, path, body in (
        ("POST", "/v1/services", SERVICE),
        ("GET", "/v1/services", None),
        ("GET", "/v1/services/w-1", None),
        ("PUT", "/v1/services/w-1/heartbeat", None),
        ("DELETE", "/v1/services/w-1", None),
        ("PUT", "/v1/services/w-1/drain", None),
        ("PUT", "/v1/services/w-1/endpoints", []),
        ("GET", "/v1/endpoints", None),
        ("GET", "/v1/discovery/stats", None),
    ):
        answer = await off.client.request(method, path, json=body)
        assert answer.status_code == 404, (method, path)
        assert "discovery.enabled" in answer.json()["detail"]
        template = path.replace("w-1", "{id}")
        assert "404" in document["paths"][template][method.lower()]["responses"], "and is documented"
    assert "discovery" not in (await off.client.get("/health")).json()["data"]["features"]


async def test_those_who_wake_together_are_answered_with_one_body_and_not_with_copies(world):
    index = int((await world.client.get("/v1/services?type=workers")).headers["x-econeura-index"])
    view = HOT["GET", "/v1/services"].view
    bodies = []

    async def poll():
        query = b"type=workers&index=%d" % index
        context = RequestContext(request_id="r", peer="test")
        peer = Peer("test", is_local=True)
        asked = Request("GET", "/v1/services", [], {}, peer, None, context, b"", query)
        bodies.append((await view(world.services, asked)).body)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(poll)
        await trio.testing.wait_all_tasks_blocked()
        await world.post("/v1/services", SERVICE)
    assert b'"w-1"' in bodies[0]
    assert all(body is bodies[0] for body in bodies)


async def test_the_deepest_metadata_that_is_taken_is_read_again_after_a_restart(world):
    deepest = {}
    for _ in range(62):
        deepest = {"a": deepest}
    assert (await world.post("/v1/services", {**SERVICE, "metadata": deepest})).status_code == 201
    assert (await world.post("/v1/services", {**SERVICE, "metadata": {"a": deepest}})).status_code == 400
    await world.services.registry.load()
    assert world.services.registry.get("w-1").registration.metadata == deepest


async def test_a_full_registry_refuses_another_instance_and_says_what_to_do():
    settings = Settings(discovery=DiscoverySettings(max_services=2))
    async with open_inline_store() as store, open_world(store, settings=settings) as world:
        for key in ("w-1", "w-2"):
            assert (await world.post("/v1/services", {**SERVICE, "id": key})).status_code == 201
        answer = await world.post("/v1/services", {**SERVICE, "id": "w-3"})
        assert (answer.status_code, answer.json()["type"]) == (507, "/problems/store-full")
        assert answer.json()["detail"] == (
            "The registry holds 2 instances, as many as discovery.max_services allows; "
            "deregister what is not needed, or raise it"
        )
        assert (await world.post("/v1/services", {**SERVICE, "id": "w-1"})).status_code == 200
        await world.client.delete("/v1/services/w-2")
        assert (await world.post("/v1/services", {**SERVICE, "id": "w-3"})).status_code == 201


@pytest.mark.parametrize(
    ("endpoints", "message"),
    [
        ([{"endpoint": "/a"}] * 1001, "expected 0 to 1000 items, got 1001"),
        (
            [{"endpoint": "/a", "description": "d" * 1000}] * 131,
            "expected at most 131072 characters in all of the endpoints, got 131655",
        ),
    ],
)
async def test_an_instance_says_only_so_much_of_what_it_offers(world, endpoints, message):
    answer = await world.post("/v1/services", {**SERVICE, "endpoints": endpoints})
    assert answer.json()["details"] == [{"path": "$.endpoints", "message": message}]
    assert (await world.post("/v1/services", SERVICE)).status_code == 201
    answer = await world.client.put("/v1/services/w-1/endpoints", json=endpoints)
    assert (answer.status_code, answer.json()["details"]) == (400, [{"path": "$", "message": message}])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("check.timeoutMs", 60_001, "expected 10 to 60000, got the number 60001"),
        (
            "host",
            "db.example:80",
            "expected a host without a port, got 'db.example:80'",
        ),
        (
            "id",
            "-a",
            "expected 1 to 128 of A-Z, a-z, 0-9, '_', '.', ':' and '-', beginning with a letter or digit, got '-a'",
        ),
    ],
)
async def test_a_flaw_says_what_to_write_instead(world, field, value, message):
    key, _, inner = field.partition(".")
    answer = await world.post("/v1/services", {**SERVICE, key: {inner: value} if inner else value})
    assert answer.json()["details"] == [{"path": f"$.{field}", "message": message}]


async def test_a_crowd_that_asks_in_one_moment_is_answered_with_one_list_until_something_changes(
    world, autojump_clock
):
    view = HOT["GET", "/v1/services"].view

    async def body():
        context, peer = RequestContext(request_id="r", peer="test"), Peer("test", is_local=True)
        asked = Request("GET", "/v1/services", [], {}, peer, None, context, b"", b"type=workers")
        return (await view(world.services, asked)).body

    await world.post("/v1/services", {**SERVICE, "ttlMs": 3_600_000})
    first = await body()
    assert await body() is first
    await world.post("/v1/services", {**SERVICE, "id": "w-2", "ttlMs": 3_600_000})
    second = await body()
    assert b'"w-2"' in second
    await world.client.put("/v1/services/w-2/heartbeat")
    await trio.sleep(0.6)
    assert await body() != second
