"""Health, readiness, metrics, and the OpenAPI document."""

import re

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from econeura_daemon._version import VERSION
from econeura_daemon.api.app import ROUTES
from econeura_daemon.telemetry import ComponentHealth
from tests.support.api_world import open_stored_world


@pytest.fixture
async def world(tmp_path):
    async with open_stored_world(tmp_path) as opened:
        yield opened


async def test_health_tells_of_every_part_and_is_503_when_one_is_unhealthy(world):
    answer = await world.client.get("/health")
    data = answer.json()["data"]
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert (data["status"], data["service"], data["version"]) == ("healthy", "econeura-daemon", VERSION)
    assert data["uptime"] >= 0
    assert data["components"]["database"] == {"status": "healthy", "detail": "sqlite"}
    world.services.health.add("prober", lambda: ComponentHealth("degraded", "slow"))
    assert (await world.client.get("/health")).status_code == 200
    world.services.health.add("dispatcher", lambda: ComponentHealth("unhealthy", "gone"))
    answer = await world.client.get("/health")
    assert (answer.status_code, answer.json()["success"]) == (503, False)
    assert answer.json()["data"]["status"] == "unhealthy"
    assert answer.json()["data"]["components"]["prober"]["status"] == "degraded"


async def test_ready_is_200_until_a_part_is_unhealthy_or_the_daemon_drains(world):
    ready = await world.client.get("/readyz")
    assert (ready.status_code, ready.text) == (200, "ok\n")
    verbose = await world.client.get("/readyz?verbose")
    assert verbose.text == "[+] database: sqlite\n[+] draining: no\nok\n"
    world.drain.begin()
    draining = await world.client.get("/readyz")
    assert (draining.status_code, draining.text) == (503, "[-] draining: yes\nnot ok\n")
    alive = await world.client.get("/livez?verbose")
    assert (alive.status_code, alive.text) == (200, "[+] loop: answers\nok\n")


async def test_an_ill_part_makes_not_ready_but_not_dead(world):
    world.services.health.add("dispatcher", lambda: ComponentHealth("unhealthy", "gone"))
    ready = await world.client.get("/readyz")
    assert (ready.status_code, ready.text) == (503, "[-] dispatcher: gone\nnot ok\n")
    assert (await world.client.get("/livez")).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/metrics", "/openapi.json"])
async def test_probes_may_add_a_query_of_their_own(world, path):
    assert (await world.client.get(f"{path}?t=1&t=2")).status_code == 200


async def test_metrics_are_prometheus_text(world):
    await world.post("/v1/events", {"type": "a", "data": {}})
    answer = await world.client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'econeura_http_requests_total{method="POST",route="/v1/events",status="202"} 1.0' in answer.text


GATEWAY = "/v1/mesh/{type}/{path}"


async def document_of(world):
    answer = await world.client.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


async def test_the_served_document_is_valid_openapi_3_1(world):
    document = await document_of(world)
    OpenAPIV31SpecValidator(document).validate()
    assert document["info"]["version"] == VERSION


async def test_the_document_has_every_route_and_each_says_what_it_does(world):
    paths = (await document_of(world))["paths"]
    gateway = paths.pop(GATEWAY)
    assert gateway.pop("parameters")
    assert set(gateway) == {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
    entered = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert entered == {(route.method, route.path) for route in ROUTES}
    operations = [one for methods in [*paths.values(), gateway] for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(one["summary"].endswith(".") for one in operations)


async def test_the_document_has_the_headers_that_clients_build_upon(world):
    paths = (await document_of(world))["paths"]

    def asked(path, method):
        return {one["name"] for one in paths[path][method]["parameters"] if one["in"] == "header"}

    def told(path, method, status):
        return set(paths[path][method]["responses"][status].get("headers", ()))

    assert told("/v1/services", "get", "200") == {"X-Econeura-Index"}
    assert asked("/v1/stream", "get") == {"Last-Event-ID"}
    for path in ("/v1/services", "/v1/events"):
        assert asked(path, "post") == {"Idempotency-Key"}
        assert "Idempotent-Replayed" in told(path, "post", "200")
    assert asked("/v1/services", "get") == set()
    for status in ("503", "default"):
        assert told(GATEWAY, "put", status) == {"X-Service-Id", "X-Retries", "X-Response-Time"}
    by_name = {one["name"]: one for one in paths[GATEWAY]["parameters"]}
    assert set(by_name) == {"type", "path", "X-Timeout-Ms", "Idempotency-Key", "Proxy-Authorization"}


def validator_of(document, path, method, status):
    response = document["paths"][path][method]["responses"][str(status)]
    [content] = response["content"].values()
    schema = {**content["schema"], "components": document["components"]}
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return jsonschema.Draft202012Validator(schema, format_checker=checker)


async def test_what_routes_answer_is_what_the_document_says(world):
    document = await document_of(world)
    checked = set()

    async def check(method, template, body=None, path=None, expect=None):
        answer = await world.client.request(method, path or template, json=body)
        assert expect is None or answer.status_code == expect, answer.text
        validator_of(document, template, method.lower(), answer.status_code).validate(answer.json())
        checked.add((method, template))
        return answer.json().get("data")

    one = "/v1/webhooks/subscriptions/{id}"
    policy = {"maxRetries": 2, "schedule": [1000, 2000]}
    made = await check(
        "POST",
        "/v1/webhooks/subscriptions",
        {"url": "https://r.example/", "events": ["*"], "retryPolicy": policy, "headers": {"X-A": "b"}},
        expect=201,
    )
    await check("POST", "/v1/webhooks/subscriptions", {"url": "https://r.example/", "events": ["*"]})
    path = one.replace("{id}", made["id"])
    await check("GET", one, path=path, expect=200)
    await check("PATCH", one, {"description": "x"}, path, 200)
    await check("GET", "/v1/webhooks/subscriptions", expect=200)
    event = await check("POST", "/v1/events", {"type": "a", "data": {"x": 1}, "id": "e"}, expect=202)
    await check("POST", "/v1/events", {"type": "a", "data": {}, "id": "e"}, expect=200)
    await check("POST", "/v1/events", {"type": "A", "data": {}}, expect=400)
    await check("POST", "/v1/events/batch", {"events": [{"type": "a", "data": {}}]}, expect=202)
    await check("GET", "/v1/events", expect=200)
    await check("GET", "/v1/analytics/events", expect=200)
    for inbound in ("/v1/workers/webhooks/workers", "/v1/webhooks/workers"):
        await check("POST", inbound, expect=400)  # what is signed: test_api_inbound
    await check("GET", "/v1/events/{id}", path=f"/v1/events/{event['id']}", expect=200)
    await check("GET", "/v1/events/{id}", path="/v1/events/none", expect=404)
    listed = await check(
        "GET", "/v1/events/{id}/deliveries", path=f"/v1/events/{event['id']}/deliveries", expect=200
    )
    await check("GET", "/v1/webhooks/deliveries", expect=200)
    delivery = listed["items"][0]["id"]
    await check("GET", "/v1/webhooks/deliveries/{id}", path=f"/v1/webhooks/deliveries/{delivery}", expect=200)
    await check("GET", "/v1/webhooks/stats", expect=200)
    await check("GET", "/health", expect=200)
    job = {"id": "j", "name": "x", "schedule": "@daily", "action": {"kind": "event", "type": "a"}}
    one_job, at = "/v1/cron/jobs/{id}", "/v1/cron/jobs/j"
    await check("POST", "/v1/cron/jobs", {**job, "pauseAfterFailures": 3}, expect=201)
    await check("POST", "/v1/cron/jobs", {**job, "schedule": "* *"}, expect=400)
    await check("POST", "/v1/cron/jobs", job, expect=409)
    await check("POST", f"{one_job}/run", path=f"{at}/run", expect=202)
    await check("GET", "/v1/cron/jobs", expect=200)
    await check("GET", one_job, path=at, expect=200)
    await check("GET", f"{one_job}/runs", path=f"{at}/runs", expect=200)
    await check("PATCH", one_job, {"jitterMs": 1}, at, 200)
    await check("POST", f"{one_job}/disable", path=f"{at}/disable", expect=200)
    await check("POST", f"{one_job}/enable", path=f"{at}/enable", expect=200)
    await check("GET", "/v1/cron/stats", expect=200)
    await check(
        "POST", "/v1/workers/emails/process", {"messageId": "<a@b>", "organizationId": "o"}, expect=503
    )
    bulk = {"messageIds": ["<a@b>"], "organizationId": "o"}
    await check("POST", "/v1/workers/emails/process/bulk", bulk, expect=503)
    begun = await world.post("/v1/workers/emails/process/bulk", bulk, prefer="respond-async")
    await check("GET", "/v1/workers/jobs", expect=200)
    bulk_job, path = "/v1/workers/jobs/{id}", f"/v1/workers/jobs/{begun.json()['data']['jobId']}"
    await check("GET", bulk_job, path=path, expect=200)
    await check("DELETE", bulk_job, path=path, expect=200)
    asked = {"jobId": "j", "action": "status", "organizationId": "o"}
    await check("POST", "/v1/workers/cron/manage", asked, expect=503)  # what succeeds: test_api_workers
    await check("GET", "/v1/workers/emails", expect=200)
    await check("GET", "/v1/workers/health", expect=200)
    await check("GET", "/v1/workers/stats", expect=200)
    await check("DELETE", one_job, path=at, expect=200)
    check_body = {"kind": "tcp", "intervalMs": 100}
    service = {"id": "s", "type": "db", "host": "::1", "port": 5432, "check": check_body, "tags": ["a"]}
    await check("POST", "/v1/services", service, expect=201)
    await check("POST", "/v1/services", {**service, "ttlMs": 1000, "metadata": {"a": [1]}}, expect=200)
    await check("POST", "/v1/services", {**service, "type": "calls"}, expect=400)
    await check("GET", "/v1/services", expect=200)
    one_service = "/v1/services/{id}"
    for method, below, status, body in (
        ("GET", "", 200, None),
        ("PUT", "/heartbeat", 200, None),
        ("PUT", "/drain", 200, None),
        ("DELETE", "/drain", 200, None),
        ("PUT", "/endpoints", 200, [{"endpoint": "/a"}]),
        ("GET", "/endpoints", 200, None),
    ):
        await check(method, one_service + below, body, f"/v1/services/s{below}", status)
    await check("GET", "/v1/endpoints", expect=200)
    await check("GET", "/v1/discovery/stats", expect=200)
    await world.client.get("/v1/mesh/db/x")
    await check("GET", "/v1/mesh", expect=200)
    await check("GET", "/v1/mesh/calls", expect=200)
    await check("PUT", "/v1/mesh/faults", {"type": "db", "delayMs": 1}, expect=200)
    await check("GET", "/v1/mesh/faults", expect=200)
    await check("DELETE", "/v1/mesh/faults", expect=200)
    await check("DELETE", one_service, path="/v1/services/s", expect=200)
    others = {"/livez", "/readyz", "/metrics", "/openapi.json", "/v1/stream"}
    assert checked | {("DELETE", one)} == {
        (route.method, route.path) for route in ROUTES if route.path not in others
    }


async def test_bodies_that_are_accepted_fit_the_schemas_of_the_document(world):
    document = await document_of(world)

    def schema(path, method):
        return document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]

    event = schema("/v1/events", "post")
    assert event["required"] == ["type", "data"]
    assert event["additionalProperties"] is False
    jsonschema.validate({"type": "a", "data": {}}, event)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"type": 5, "data": {}}, event)
    subscription = schema("/v1/webhooks/subscriptions", "post")
    jsonschema.validate(
        {"url": "https://x", "events": ["*"], "retryPolicy": {"maxRetries": 3}, "maxInFlight": None},
        subscription,
    )
    patch = schema("/v1/webhooks/subscriptions/{id}", "patch")
    jsonschema.validate({}, patch)
    assert not any("default" in member for member in patch["properties"].values())


async def test_the_document_tells_what_a_route_may_be_refused_with(world):
    responses = (await document_of(world))["paths"]["/v1/events"]["post"]["responses"]
    assert {"200", "202", "400", "401", "403", "409", "413", "415", "422", "500", "503", "507"} <= set(
        responses
    )
    assert re.search("idempotency-in-flight", responses["409"]["description"])
