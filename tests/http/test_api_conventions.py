"""What holds for every route: envelopes, problems, methods, content types, sizes, scopes, labels."""

import re
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
import trio

from econeura_daemon.api import scope_of
from econeura_daemon.api.app import ROUTES
from econeura_daemon.core.errors import (
    EgressRefusedError,
    OutcomeUnknownError,
    StoreBusyError,
    StoreCorruptError,
    StoreFullError,
    StoreTooNewError,
    StoreUnavailableError,
)
from econeura_daemon.core.settings import HttpSettings, Settings
from econeura_daemon.server import PROBLEMS, Principal, Scope
from tests.support.api_world import open_stored_world, open_world
from tests.support.inline_store import open_inline_store

EVENT = {"type": "a", "data": {}}
SERVICE = {"type": "workers", "host": "127.0.0.1", "port": 4001}
JOB = {"name": "x", "schedule": "@daily", "action": {"kind": "event", "type": "a"}}
BODIES = {
    "/v1/services": SERVICE,
    "/v1/services/{id}/endpoints": [],
    "/v1/events": EVENT,
    "/v1/events/batch": {"events": [EVENT]},
    "/v1/webhooks/subscriptions": {"url": "https://receiver.example/", "events": ["*"]},
    "/v1/webhooks/subscriptions/{id}": {},
    "/v1/cron/jobs": JOB,
    "/v1/workers/emails/process": {"messageId": "<a@b>", "organizationId": "acme"},
    "/v1/workers/emails/process/bulk": {"messageIds": ["<a@b>"], "organizationId": "acme"},
    "/v1/workers/cron/manage": {"jobId": "j", "action": "status", "organizationId": "acme"},
    "/v1/cron/jobs/{id}": {},
}
WITH_BODY = [(route.method, route.path) for route in ROUTES if route.path in BODIES and route.method != "GET"]
WITH_BODY = [pair for pair in WITH_BODY if pair[0] != "DELETE"]
IN_MEMORY = ("/v1/services", "/v1/endpoints", "/v1/discovery", "/v1/mesh", "/v1/workers/health")
"""What is read there does not ask the store."""
GETS = [route.path for route in ROUTES if route.method == "GET" and route.path != "/v1/stream"]


@pytest.fixture
async def world(tmp_path):
    async with open_stored_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def ids(world):
    """Ids for the ``{id}`` of every path."""
    subscription = await world.post("/v1/webhooks/subscriptions", BODIES["/v1/webhooks/subscriptions"])
    await world.post("/v1/events", {**EVENT, "id": "e-1"})
    lease = {"ttlMs": 3_600_000}  # and no check: the first probe's event would be counted by whoever counts
    await world.post("/v1/services", {**SERVICE, "id": "s-1", **lease})
    await world.post("/v1/cron/jobs", {**JOB, "id": "j-1"})
    bulk = BODIES["/v1/workers/emails/process/bulk"]
    begun = await world.post("/v1/workers/emails/process/bulk", bulk, prefer="respond-async")
    deliveries = await world.client.get("/v1/webhooks/deliveries")
    return {
        "/v1/workers/jobs/{id}": begun.json()["data"]["jobId"],
        "/v1/services/{id}": "s-1",
        "/v1/services/{id}/endpoints": "s-1",
        "/v1/events/{id}": "e-1",
        "/v1/events/{id}/deliveries": "e-1",
        "/v1/webhooks/subscriptions/{id}": subscription.json()["data"]["id"],
        "/v1/webhooks/deliveries/{id}": deliveries.json()["data"]["items"][0]["id"],
        "/v1/cron/jobs/{id}": "j-1",
        "/v1/cron/jobs/{id}/runs": "j-1",
    }


def receive_once(receive):
    """Deliver one message, and then never another."""
    asked = False

    async def once():
        nonlocal asked
        if asked:
            await trio.sleep_forever()
        asked = True
        return await receive()

    return once


def filled(path, ids):
    return path.replace("{id}", ids.get(path, ""))


def check_problem(answer, slug):
    status, title = PROBLEMS[slug]
    document = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status_code, document["type"]) == (status, f"/problems/{slug}"), answer.text
    assert document["status"] == status
    assert document["title"] == document["error"] == title
    assert document["success"] is False
    assert document["instance"] == answer.headers["X-Request-ID"]
    assert document["detail"]
    assert isinstance(document["details"], list)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document["timestamp"])
    assert "Traceback" not in answer.text
    return document


@pytest.mark.parametrize("path", GETS)
async def test_head_answers_as_get_does_without_a_body(world, ids, path):
    got = await world.client.get(filled(path, ids))
    head = await world.client.head(filled(path, ids))
    assert (got.status_code, head.status_code) == (200, 200)
    assert head.content == b""
    assert head.headers["Content-Type"] == got.headers["Content-Type"]
    assert int(head.headers["Content-Length"]) > 0


async def test_head_sends_no_byte_of_a_body_to_the_server(world):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message.get("body", b""))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "HEAD", "scheme": "http",
        "path": "/v1/events", "raw_path": b"/v1/events", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost:3001")], "client": ("127.0.0.1", 4000), "server": ("localhost", 3001),
    }  # fmt: skip
    await world.asgi(scope, receive_once(receive), send)
    assert len(sent) > 1
    assert b"".join(sent) == b""


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
async def test_options_tells_the_methods_and_another_method_is_a_405_that_tells_them_too(world, path):
    target = filled(path, {path: "x"})
    allowed = {route.method for route in ROUTES if target == route.path or route.matches(target)}
    allowed |= {"OPTIONS", "HEAD"} if "GET" in allowed else {"OPTIONS"}
    options = await world.client.options(target)
    assert options.status_code == 204
    assert set(options.headers["Allow"].split(", ")) == allowed
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - allowed:
        refused = await world.client.request(method, target)
        document = check_problem(refused, "method-not-allowed")
        assert document["detail"].startswith(f"There is no route {method} {target}; at this path there is ")
        assert set(refused.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/", "/v1/events/", "//v1/events", "/v1//events", "/V1/events", "/v1/cron",
     "/v1/events%00", "/v1/webhooks/deliveries/%00", "/v1/events/%ff", "/%2e%2e/etc/passwd", "/static/x"],
)  # fmt: skip
async def test_what_is_not_there_is_a_404(world, path):
    document = check_problem(await world.client.get(path), "not-found")
    assert document["detail"].startswith(("There is no route GET /", "There is no thing with the id "))


@pytest.mark.parametrize("path", [path for path in GETS if "{id}" in path])
async def test_an_unknown_id_is_a_404(world, path):
    document = check_problem(await world.client.get(path.replace("{id}", "unknown")), "not-found")
    assert "'unknown'" in document["detail"]
    for impossible in ("%00", "a%20b", "%C3%A9", "x" * 129, "%0d%0aX-Evil:1"):
        check_problem(await world.client.get(path.replace("{id}", impossible)), "not-found")


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_another_content_type_is_a_415_and_stores_nothing(world, ids, method, path):
    before = await world.counts()
    for headers in (
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": ""},
        {},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ):
        answer = await world.client.request(method, filled(path, ids), content=b"{}", headers=headers)
        check_problem(answer, "unsupported-media-type")
    assert await world.counts() == before


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8"])
async def test_json_that_says_utf_8_is_taken(world, charset):
    answer = await world.client.post(
        "/v1/events",
        content=b'{"type":"a","data":{}}',
        headers={"Content-Type": f"application/json; charset={charset}"},
    )
    assert answer.status_code == 202


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"null", b"[]", b"5", b'"x"', b"\xff", b'{"a":NaN}', b"[" * 65 + b"]" * 65,
     b"\xef\xbb\xbf{}", b"{}{}", b'{"type":"a","data":{"x":1e999}}', b'{"\\ud800":1}'],
)  # fmt: skip
async def test_a_body_that_is_no_fit_is_a_400_with_its_path_and_stores_nothing(world, ids, method, path, raw):
    if raw == b"[]" and path.endswith("/endpoints"):
        raw = b"{}"  # there a list is what fits
    before = await world.counts()
    answer = await world.client.request(
        method, filled(path, ids), content=raw, headers={"Content-Type": "application/json"}
    )
    document = check_problem(answer, "invalid-input")
    assert document["details"]
    assert all(flaw["path"].startswith("$") and flaw["message"] for flaw in document["details"])
    assert await world.counts() == before


async def test_every_flaw_of_a_body_is_told_at_once_with_a_suggestion(world):
    body = {"url": "ftp://x", "events": ["a.*", 5], "activ": True, "maxInFlight": 0, "secret": 7}
    document = check_problem(await world.post("/v1/webhooks/subscriptions", body), "invalid-input")
    told = {flaw["path"]: flaw["message"] for flaw in document["details"]}
    assert {"$.url", "$.events[1]", "$.activ", "$.maxInFlight", "$.secret"} <= set(told)
    assert "did you mean 'active'?" in told["$.activ"]


@pytest.mark.parametrize("key", ["rateLimit", "ordered", "nonsense"])
async def test_a_key_that_is_not_there_yet_is_a_400(world, key):
    body = {**BODIES["/v1/webhooks/subscriptions"], key: True}
    document = check_problem(await world.post("/v1/webhooks/subscriptions", body), "invalid-input")
    assert [flaw["path"] for flaw in document["details"]] == [f"$.{key}"]


async def test_a_body_over_the_limit_is_a_413_and_one_at_the_limit_is_not(tmp_path):
    settings = Settings(http=HttpSettings(max_body_bytes=2048))
    async with open_stored_world(tmp_path, settings=settings) as world:
        head, tail = b'{"type":"a","data":{"x":"', b'"}}'
        for size in (2048, 2049):
            content = head + b"x" * (size - len(head) - len(tail)) + tail
            answer = await world.client.post(
                "/v1/events", content=content, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == (202 if size == 2048 else 413)
        check_problem(answer, "payload-too-large")
        assert (await world.counts())["events"] == 1


class Failing:
    """A store of which every work ends in one error, once it is told to."""

    def __init__(self, inner, error):
        self._inner = inner
        self._error = error
        self.fails = False

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def transact(self, work):
        if not self.fails:
            return await self._inner.transact(work)
        await trio.lowlevel.checkpoint()
        raise self._error

    ingest = read = transact


@asynccontextmanager
async def open_failing_world(error):
    async with open_inline_store() as store:
        failing = Failing(store, error)
        async with open_world(failing) as world:
            failing.fails = True
            yield world
            failing.fails = False


@pytest.mark.parametrize(
    ("error", "slug", "retry"),
    [
        (StoreBusyError("secret"), "overloaded", True),
        (StoreFullError("secret"), "store-full", False),
        (StoreUnavailableError("secret"), "store-unavailable", True),
        (StoreCorruptError("secret"), "store-unavailable", True),
        (StoreTooNewError("secret"), "store-unavailable", True),
        (OutcomeUnknownError("secret"), "outcome-unknown", False),
        (RuntimeError("secret"), "internal-error", False),
        (ExceptionGroup("secret", [KeyError("secret")]), "internal-error", False),
        (sa.exc.OperationalError("secret", {}, Exception("secret")), "internal-error", False),
    ],
)
async def test_what_fails_within_is_told_without_its_secrets(caplog, error, slug, retry):
    async with open_failing_world(error) as world:
        requests = [("POST", path) for path in BODIES if "{id}" not in path and "/workers/" not in path]
        requests += [
            ("GET", path) for path in GETS if path.startswith("/v1") and not path.startswith(IN_MEMORY)
        ]
        for method, path in requests:
            answer = await world.client.request(
                method, path.replace("{id}", "x"), json=BODIES[path] if method == "POST" else None
            )
            check_problem(answer, slug)
            assert "secret" not in answer.text
            assert ("Retry-After" in answer.headers) is retry
    if slug == "internal-error":
        assert answer.headers["X-Request-ID"] in caplog.text


async def test_an_address_that_may_not_be_called_is_a_400():
    error = EgressRefusedError("127.0.0.1 may not be called")
    async with open_failing_world(error) as world:
        answer = await world.post("/v1/webhooks/subscriptions", BODIES["/v1/webhooks/subscriptions"])
        check_problem(answer, "invalid-input")


SCOPES = {
    ("GET", "/livez"): None,
    ("GET", "/readyz"): None,
    ("POST", "/v1/workers/webhooks/workers"): None,
    ("POST", "/v1/webhooks/workers"): None,
    ("POST", "/v1/events"): Scope.PUBLISH,
    ("POST", "/v1/workers/emails/process"): Scope.PUBLISH,
    ("POST", "/v1/workers/emails/process/bulk"): Scope.PUBLISH,
    ("DELETE", "/v1/workers/jobs/{id}"): Scope.PUBLISH,
    ("POST", "/v1/events/batch"): Scope.PUBLISH,
    ("POST", "/v1/services"): Scope.PUBLISH,
    ("DELETE", "/v1/services/{id}"): Scope.PUBLISH,
    ("PUT", "/v1/services/{id}/heartbeat"): Scope.PUBLISH,
    ("PUT", "/v1/services/{id}/endpoints"): Scope.PUBLISH,
}


def test_every_get_needs_read_publishing_needs_publish_and_the_rest_needs_admin():
    for route in ROUTES:
        expected = SCOPES.get(
            (route.method, route.path), Scope.READ if route.method == "GET" else Scope.ADMIN
        )
        path = route.path.replace("{id}", "x")
        assert scope_of(route.method, path) is expected, route.path
        assert route.scope is expected
        assert route.matches(path)
        assert not route.matches(route.path.replace("{id}", "x/y") if "{id}" in route.path else f"{path}/x")
    assert scope_of("HEAD", "/livez") is None
    assert scope_of("HEAD", "/v1/events") is Scope.READ
    assert scope_of("GET", "/nowhere") is Scope.READ
    for method in ("POST", "PUT", "DELETE", "BREW"):
        assert scope_of(method, "/nowhere") is Scope.ADMIN
        assert scope_of(method, "/livez") is Scope.ADMIN
    assert scope_of("OPTIONS", "/v1/events") is None


async def test_a_token_reaches_what_its_scopes_say_and_no_more(tmp_path):
    class Tokens:
        def authenticate(self, text, now):
            scope = text.removeprefix("eco_")
            return Principal(text, frozenset([Scope(scope)])) if scope in set(Scope) else None

    async with open_stored_world(tmp_path, tokens=Tokens(), auth_required=True) as world:
        for route in ROUTES:
            path = route.path.replace("{id}", "x")
            if route.scope is None or path == "/v1/stream":
                continue
            check_problem(await world.client.request(route.method, path), "unauthorized")
            for scope in Scope:
                answer = await world.client.request(
                    route.method, path, headers={"Authorization": f"Bearer eco_{scope.value}"}
                )
                assert (answer.status_code == 403) == (scope is not route.scope), (route.path, scope)
        assert (await world.client.get("/livez")).status_code == 200
        assert (await world.client.get("/readyz")).status_code == 200


async def test_metrics_know_routes_by_their_patterns_and_never_by_their_paths(world, ids):
    for path in ids:
        await world.client.get(filled(path, ids))
    await world.client.get("/no/such/path/e-1")
    page = (await world.client.get("/metrics")).text
    for path in ids:
        assert f'route="{path}"' in page
    assert "e-1" not in page
    assert 'route="/v1/events/batch"' not in page


async def test_answers_bear_the_request_id_that_was_given(world):
    answer = await world.client.get("/v1/events", headers={"X-Request-ID": "mine"})
    assert answer.headers["X-Request-ID"] == "mine"
    refused = await world.client.get("/v1/events/none", headers={"X-Request-ID": "mine"})
    assert refused.json()["instance"] == "mine"
