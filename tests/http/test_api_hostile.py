"""Whatever comes in, on whatever route: no 5xx, no traceback, and nothing stored when it was refused."""

import json
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from econeura_daemon.api.app import ROUTES
from tests.support.api_world import open_world
from tests.support.inline_store import open_inline_store

ROUTES_UNDER_TEST = [route for route in ROUTES if route.path != "/v1/stream"]
WITH_BODY = [route for route in ROUTES_UNDER_TEST if route.body is not None or route.patch is not None]
NAMES = [route.view.__name__ for route in ROUTES_UNDER_TEST]

pytestmark = pytest.mark.slow
FEW = settings.default.max_examples // 4
"""Of everything a hundred, but there are as many tests as routes."""
REQUESTS = 5
"""As many are made of one world: to open it takes longer than to ask."""

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from([
    "type", "data", "id", "source", "version", "events", "url", "secret", "active", "description", "headers",
    "retryPolicy", "maxInFlight", "maxRetries", "schedule", "retryDelay", "nonsense",
])  # fmt: skip
FITTING = st.sampled_from([
    {"type": "a.b", "data": {}},
    {"events": [{"type": "a", "data": {}}]},
    {"url": "https://receiver.example/", "events": ["*"]},
])  # fmt: skip
VALUES = plain | st.sampled_from(["a.b", {}, ["*"], "https://receiver.example/", 1, True, {"maxRetries": 1}])
documents = st.builds(
    lambda base, changes: {**base, **changes}, FITTING, st.dictionaries(KEYS, VALUES, max_size=4)
)


@st.composite
def raw_bodies(draw):
    """A body: JSON of nearly the right shape, of any shape, cut or flipped, or no JSON at all."""
    kind = draw(st.sampled_from(["near", "near", "any", "broken", "bytes"]))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    value = draw(documents if kind in {"near", "broken"} else plain)
    raw = json.dumps(value).encode()
    if kind == "broken":
        place = draw(st.integers(0, len(raw)))
        return raw[:place] + draw(st.binary(max_size=3)) + raw[place + draw(st.integers(0, 3)) :]
    return raw


header_values = st.binary(max_size=60).filter(lambda value: not set(value) & set(b"\r\n\0"))
headers = st.lists(
    st.tuples(
        st.sampled_from([
            b"idempotency-key", b"content-encoding", b"accept", b"x-request-id", b"traceparent", b"tracestate",
            b"last-event-id", b"range", b"if-none-match", b"if-modified-since", b"cookie", b"expect", b"prefer",
            b"transfer-encoding", b"content-type", b"forwarded",
        ]),
        header_values,
    ),
    max_size=3,
)  # fmt: skip
queries = st.lists(
    st.tuples(
        st.sampled_from(
            ["limit", "cursor", "type", "since", "until", "status", "eventId", "after", "types", "x"]
        ),
        st.binary(max_size=30),
    ),
    max_size=3,
).map(lambda pairs: "&".join(f"{name}={quote_from_bytes(value)}" for name, value in pairs))
ids = st.binary(min_size=1, max_size=40).map(lambda raw: quote_from_bytes(raw, safe=""))


async def request(world, route, key, query, raw, sent_headers, content_type=b"application/json"):
    path = route.path.replace("{id}", key)
    return await world.client.request(
        route.method,
        f"{path}?{query}",
        content=raw,
        headers=[(b"content-type", content_type), *sent_headers],
    )


def check(answer, counts_before, counts_after):
    assert answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert counts_before == counts_after


@pytest.mark.parametrize("route", ROUTES_UNDER_TEST, ids=NAMES)
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=FEW // REQUESTS)
async def test_no_request_breaks_a_route(route, data):
    requests = data.draw(
        st.lists(st.tuples(ids, queries, raw_bodies(), headers), min_size=1, max_size=2 * REQUESTS)
    )
    async with open_inline_store() as store, open_world(store) as world:
        for key, query, raw, sent in requests:
            before = await world.counts()
            answer = await request(world, route, key, query, raw, sent)
            check(answer, before, await world.counts())


@given(batch=st.lists(st.tuples(st.sampled_from(WITH_BODY), raw_bodies(), headers), min_size=1, max_size=25))
@settings(max_examples=FEW)
async def test_a_run_of_requests_on_one_store_never_breaks_it(batch):
    async with open_inline_store() as store, open_world(store) as world:
        made = await world.post(
            "/v1/webhooks/subscriptions", {"url": "https://receiver.example/", "events": ["*"]}
        )
        subscription = made.json()["data"]["id"]
        for route, raw, sent in batch:
            before = await world.counts()
            answer = await request(world, route, subscription, "", raw, sent)
            check(answer, before, await world.counts())
        for path in ("/v1/events", "/v1/webhooks/subscriptions", "/v1/webhooks/deliveries"):
            assert (await world.client.get(path)).status_code == 200


@given(value=documents | plain)
async def test_what_is_accepted_as_an_event_reads_back_equal(value):
    body = {"type": "a", "data": {"value": value}}
    try:
        raw = json.dumps(body, allow_nan=False).encode()
    except ValueError:
        return  # NaN has no JSON
    async with open_inline_store() as store, open_world(store) as world:
        answer = await world.client.post(
            "/v1/events", content=raw, headers={"Content-Type": "application/json"}
        )
        if answer.status_code == 400:
            assert "\\ud" in raw.decode(), answer.text  # half of a pair has no UTF-8 form
            return
        assert answer.status_code == 202, answer.text
        event = await world.client.get(f"/v1/events/{answer.json()['data']['id']}")
        assert json.loads(event.content)["data"]["data"] == body["data"]
