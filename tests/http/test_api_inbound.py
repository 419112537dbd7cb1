"""Webhooks that come in: both signatures, once however often, and what is refused. Signed by others than we are."""

import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import standardwebhooks
import trio

from econeura_daemon.api.app import ROUTES
from econeura_daemon.core.settings import HttpSettings, Settings, WebhookSettings
from econeura_daemon.webhooks.signing import econeura_signature
from tests.support.api_world import ORIGIN, open_stored_world
from tests.support.streams import open_stream

PATHS = ("/v1/workers/webhooks/workers", "/v1/webhooks/workers")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS = Settings(webhooks=WebhookSettings(secret=SECRET))
JSON = {"Content-Type": "application/json"}
EVENT = {
    "id": "evt_1",
    "type": "workers.email_processed",
    "data": {"messageId": "<a@b>", "ok": True},
    "timestamp": "2026-11-24T01:59:30.250Z",
    "source": "workers",
    "version": "1.0.0",
}


@asynccontextmanager
async def opened(folder, settings=SETTINGS, **more):
    async with open_stored_world(folder, settings=settings, **more) as world:
        yield world


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as world:
        yield world


def body_of(event=EVENT, **changes):
    kept = {name: value for name, value in {**event, **changes}.items() if value is not ...}
    return json.dumps(kept).encode()


def standard(body, *, message_id="evt_1", at=ORIGIN, secret=SECRET):
    """Sign by the specification's own library."""
    signature = standardwebhooks.Webhook(secret).sign(message_id, at, body.decode())
    return {
        **JSON,
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
    }


def inherited(body, *, event="workers.email_processed", delivery="del_1", secret=b"plain text"):
    """Sign as ECONEURA's workers always did."""
    signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
    headers = {**JSON, "X-Webhook-Signature": f"sha256={signature}", "X-Webhook-Event": event}
    return {**headers, "X-Webhook-Delivery": delivery} if delivery else headers


PLAIN = Settings(webhooks=WebhookSettings(secret="plain text"))


async def send(world, body, headers, path=PATHS[0]):
    return await world.client.post(path, content=body, headers=headers)


async def kept(world):
    answer = await world.client.get("/v1/events")
    return answer.json()["data"]["items"]


def refused(answer, status, title):
    document = answer.json()
    assert (answer.status_code, document["error"], document["success"]) == (status, title, False), answer.text
    return document


@pytest.mark.parametrize("path", PATHS)
async def test_a_signed_event_is_answered_as_ever_and_stored_as_its_sender_has_it(world, path):
    body = body_of()
    answer = await send(world, body, {**standard(body), "X-Webhook-Delivery": "del_9"}, path)
    document = answer.json()
    assert answer.status_code == 200
    assert document == {
        "success": True,
        "message": "Webhook received successfully",
        "eventType": "workers.email_processed",
        "deliveryId": "del_9",
        "timestamp": document["timestamp"],
    }
    assert await kept(world) == [EVENT]


@pytest.mark.parametrize("path", PATHS)
async def test_the_inherited_signature_does_alone(tmp_path, path):
    async with opened(tmp_path, PLAIN) as world:
        body = body_of()
        answer = await send(world, body, inherited(body), path)
        assert (answer.status_code, answer.json()["deliveryId"]) == (200, "del_1")
        again = await send(world, body, inherited(body, delivery=None), path)
        assert (again.status_code, again.json()["deliveryId"]) == (200, None)
        assert again.json()["duplicate"] is True
        assert await kept(world) == [EVENT]


async def test_what_the_body_leaves_out_is_filled_in(tmp_path):
    async with opened(tmp_path, PLAIN) as world:
        body = body_of(id=..., timestamp=..., source=..., version=...)
        assert (await send(world, body, inherited(body))).status_code == 200
        [event] = await kept(world)
        assert (event["source"], event["version"]) == ("workers", "1.0.0")
        assert event["timestamp"].startswith("2026-11-24T02:00:0")
        assert event["data"] == EVENT["data"]


async def test_it_reaches_subscriptions_the_stream_and_both_lists(world):
    subscription = {"url": "https://receiver.example/", "events": ["workers.*"]}
    await world.post("/v1/webhooks/subscriptions", subscription)
    async with open_stream(world.asgi, "types=workers.*") as reader:
        body = body_of()
        assert (await send(world, body, standard(body))).status_code == 200
        with trio.fail_after(5):
            told = await reader.next()
    assert json.loads(told.data) == EVENT
    deliveries = (await world.client.get("/v1/webhooks/deliveries")).json()["data"]["items"]
    assert [one["eventId"] for one in deliveries] == ["evt_1"]
    for path in ("/v1/events", "/v1/analytics/events"):
        page = (await world.client.get(path, params={"type": "workers.*", "limit": 1})).json()["data"]
        assert page["items"] == [EVENT], path


async def test_the_list_for_analytics_pages_and_its_cursors_are_its_own(world):
    for number in range(3):
        body = body_of(id=f"e{number}")
        await send(world, body, standard(body, message_id=f"e{number}"))
    first = (await world.client.get("/v1/analytics/events?limit=2")).json()["data"]
    assert [event["id"] for event in first["items"]] == ["e2", "e1"]
    rest = await world.client.get("/v1/analytics/events", params={"cursor": first["nextCursor"]})
    assert [event["id"] for event in rest.json()["data"]["items"]] == ["e0"]
    foreign = await world.client.get("/v1/events", params={"cursor": first["nextCursor"]})
    assert foreign.status_code == 400


# --- what vouches for it


MISSING = "Missing required webhook headers"


@pytest.mark.parametrize(
    "left_out",
    [
        ("webhook-signature",),
        ("webhook-id",),
        ("webhook-timestamp",),
        ("webhook-id", "webhook-timestamp", "webhook-signature"),
    ],
)
async def test_without_its_headers_a_request_is_refused_with_the_inherited_words(world, left_out):
    body = body_of()
    headers = {name: value for name, value in standard(body).items() if name not in left_out}
    document = refused(await send(world, body, headers), 400, MISSING)
    assert "webhook-id" in document["detail"]
    assert await kept(world) == []


@pytest.mark.parametrize("left_out", ["X-Webhook-Signature", "X-Webhook-Event"])
async def test_the_inherited_signature_needs_the_event_beside_it(tmp_path, left_out):
    async with opened(tmp_path, PLAIN) as world:
        body = body_of()
        headers = {name: value for name, value in inherited(body).items() if name != left_out}
        refused(await send(world, body, headers), 400, MISSING)


async def test_every_byte_that_is_altered_is_noticed(world):
    body = body_of(data={})
    headers = standard(body)
    for place in range(len(body)):
        forged = bytearray(body)
        forged[place] ^= 1
        answer = await send(world, bytes(forged), headers)
        refused(answer, 401, "Invalid signature")
    assert answer.headers["WWW-Authenticate"].startswith("Webhook-Signature ")
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        for place in range(len(headers[name])):
            letters = list(headers[name])
            letters[place] = "0" if letters[place] != "0" else "1"
            refused(await send(world, body, {**headers, name: "".join(letters)}), 401, "Invalid signature")
    for forged in (body + b"\n", b" " + body, body[:-1], b""):
        refused(await send(world, forged, headers), 401, "Invalid signature")
    assert await kept(world) == []
    assert (await send(world, body, headers)).status_code == 200


async def test_every_byte_of_the_inherited_kind_that_is_altered_is_noticed(tmp_path):
    async with opened(tmp_path, PLAIN) as world:
        body = body_of(data={})
        headers = inherited(body)
        for place in range(len(body)):
            forged = bytearray(body)
            forged[place] ^= 1
            refused(await send(world, bytes(forged), headers), 401, "Invalid signature")
        signature = headers["X-Webhook-Signature"]
        for place in range(len(signature)):
            forged = signature[:place] + ("0" if signature[place] != "0" else "1") + signature[place + 1 :]
            answer = await send(world, body, {**headers, "X-Webhook-Signature": forged})
            refused(answer, 401, "Invalid signature")
        for other in ("workers.email_processe", "workers.error_occurred", "cron.run_failed", "é", ""):
            answer = await send(world, body, {**headers, "X-Webhook-Event": other.encode()})
            assert refused(answer, 400, "Invalid input")["details"][0]["path"] == "X-Webhook-Event"
        assert await kept(world) == []


@pytest.mark.parametrize("kind", ["webhook-signature", "X-Webhook-Signature"])
async def test_a_message_with_both_kinds_must_satisfy_both(world, kind):
    body = body_of()
    both = {**standard(body), "X-Webhook-Signature": econeura_signature(SECRET, body)}
    forged = econeura_signature("another", body) if kind.startswith("X") else "v1,AAAA"
    refused(await send(world, body, {**both, kind: forged}), 401, "Invalid signature")
    assert (await send(world, body, both)).status_code == 200


@pytest.mark.parametrize(
    ("off", "status"), [(-299, 200), (-302, 401), (299, 200), (302, 401), (10**9, 401), (-(10**9), 401)]
)
async def test_a_signature_holds_for_five_minutes_either_way(world, off, status):
    body = body_of()
    answer = await send(world, body, standard(body, at=ORIGIN + timedelta(seconds=off)))
    assert answer.status_code == status
    if status == 401:
        assert " the present" in answer.json()["detail"]


@pytest.mark.parametrize("stamp", ["", "soon", "-1", "1e9", "1" * 13, "١٧٦٤"])
async def test_a_timestamp_that_is_none_is_an_invalid_signature(world, stamp):
    body = body_of()
    headers = {**standard(body), "webhook-timestamp": stamp.encode()}
    refused(await send(world, body, headers), 401, "Invalid signature")


async def test_a_dot_in_the_signed_id_which_could_be_read_in_two_ways_is_refused(world):
    body = body_of()
    document = refused(await send(world, body, standard(body, message_id="a.1")), 401, "Invalid signature")
    assert "dot" in document["detail"]


@pytest.mark.parametrize("name", ["webhook-id", "X-Webhook-Signature", "X-Webhook-Event"])
async def test_a_header_that_comes_twice_is_a_400(world, name):
    body = body_of()
    headers = [*standard(body).items(), (name, "a"), (name, "b")]
    answer = await send(world, body, headers)
    assert refused(answer, 400, "Invalid input")["details"][0]["path"] == name.lower()


async def test_without_a_secret_it_is_said_and_setting_one_heals_it_while_it_runs(tmp_path):
    async with opened(tmp_path, Settings()) as world:
        body = body_of()
        document = refused(await send(world, body, standard(body)), 503, "No webhook secret")
        assert "WEBHOOK_SECRET" in document["detail"]
        refused(await send(world, body, JSON), 400, MISSING)
        world.policies.use(SETTINGS.webhooks)
        assert (await send(world, body, standard(body))).status_code == 200


async def test_it_needs_no_token_and_looks_at_none(tmp_path):
    async with opened(tmp_path, auth_required=True) as world:
        body = body_of()
        for more in ({}, {"Authorization": "Bearer eco_unknown"}, {"X-Forwarded-For": "203.0.113.9"}):
            assert (await send(world, body, {**standard(body), **more})).status_code == 200
            assert (await world.client.post("/v1/events", json=EVENT, headers=more)).status_code == 401


async def test_pages_and_foreign_hosts_are_refused_as_everywhere(world):
    body = body_of()
    for more, status in (
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.example"}, 421),
    ):
        assert (await send(world, body, {**standard(body), **more})).status_code == status
    assert await kept(world) == []


# --- once


async def test_the_same_event_in_any_dress_is_stored_once(world):
    """By its signed id; the body may have been written anew, the delivery be another, the signature later."""
    first = await send(world, body_of(), standard(body_of()))
    assert "duplicate" not in first.json()
    spaced = json.dumps(EVENT, indent=1).encode()
    both = {**standard(spaced), "X-Webhook-Signature": econeura_signature(SECRET, spaced)}
    later = standard(body_of(), at=ORIGIN + timedelta(seconds=200))
    other = body_of(data={"other": 1})
    for body, headers, path in (
        (body_of(), standard(body_of()), PATHS[1]),
        (spaced, both, PATHS[0]),
        (body_of(), {**later, "X-Webhook-Delivery": "del_2"}, PATHS[0]),
        (other, standard(other), PATHS[0]),
    ):
        answer = await send(world, body, headers, path)
        assert (answer.status_code, answer.json()["duplicate"]) == (200, True)
    assert await kept(world) == [EVENT]


async def test_an_unsigned_id_or_delivery_beside_the_inherited_signature_makes_no_second_event(tmp_path):
    async with opened(tmp_path, PLAIN) as world:
        body = body_of()
        for number in range(3):
            headers = {**inherited(body, delivery=f"del_{number}"), "webhook-id": f"msg_{number}"}
            assert (await send(world, body, headers)).status_code == 200
        assert await kept(world) == [EVENT]


async def test_without_any_id_the_body_itself_is_the_key(tmp_path):
    async with opened(tmp_path, PLAIN) as world:
        one, other = body_of(id=...), body_of(id=..., data={"other": 1})
        for body in (one, other, one, other, one):
            assert (await send(world, body, inherited(body))).status_code == 200
        assert len(await kept(world)) == 2


@pytest.mark.parametrize("message_id", ["a/b", "with blank", "ñandú", "x" * 200, "evt-1~2"])
async def test_any_id_makes_an_event_once(world, message_id):
    body = body_of()
    signed = {**standard(body, message_id=message_id), "webhook-id": message_id.encode()}
    answers = [await send(world, body, signed) for _ in range(2)]
    assert [(one.status_code, one.json().get("duplicate")) for one in answers] == [(200, None), (200, True)]
    [event] = await kept(world)
    assert (await world.client.get(f"/v1/events/{event['id']}")).status_code == 200


async def test_the_same_id_of_two_sources_is_two_events(world):
    """Neither can swallow the other's, nor one that was published here."""
    await world.post("/v1/events", {"type": "a", "data": {}, "id": "evt_1"})
    for source in ("workers", "workers-2"):
        body = body_of(source=source)
        answers = [await send(world, body, standard(body)) for _ in range(2)]
        assert ["duplicate" in one.json() for one in answers] == [False, True]
    events = await kept(world)
    assert sorted(event["source"] for event in events) == ["api", "workers", "workers-2"]
    assert len({event["id"] for event in events}) == 3


async def test_copies_that_arrive_at_once_are_one_event_with_one_delivery(world):
    await world.post("/v1/webhooks/subscriptions", {"url": "https://receiver.example/", "events": ["*"]})
    body = body_of()
    answers = []

    async def post(path):
        answers.append((await send(world, body, standard(body), path)).json())

    async with trio.open_nursery() as nursery:
        for path in PATHS * 10:
            nursery.start_soon(post, path)
    assert [one.get("duplicate") for one in answers].count(None) == 1
    counts = await world.counts()
    assert (counts["events"], counts["deliveries"]) == (1, 1)


async def test_what_the_daemon_itself_sent_here_ends_here(world):
    """A subscription that points at this very route: its deliveries are known again and make nothing."""
    body = body_of(source="api")
    await world.post("/v1/events", {"type": EVENT["type"], "data": {}, "id": "evt_1"})
    answer = await send(world, body, standard(body))
    assert answer.json()["duplicate"] is True
    derived = body_of(id="a b")
    await send(world, derived, standard(derived, message_id="a b"))
    [made, _] = await kept(world)
    back = json.dumps(made).encode()
    assert (await send(world, back, standard(back, message_id=made["id"]))).json()["duplicate"] is True
    assert len(await kept(world)) == 2


# --- what is no event


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"", "$"),
        (b"no JSON", "$"),
        (b"[1]", "$"),
        (b'"text"', "$"),
        (b'{"data": {}}', "$.type"),
        (b'{"messageId": "<a@b>"}', "$.messageId"),
        (b'{"type": "workers.x", "data": NaN}', "$"),
        (b'{"type": "workers.x", "data": {"a": NaN}}', "$"),
        (b'{"type": "workers.x", "data": ' + b"[" * 70 + b"]" * 70 + b"}", "$"),
        (b'{"type": "workers.x", "data": []}', "$.data"),
        (b'{"type": "workers.x"}', "$.data"),
        (b'{"type": 5, "data": {}}', "$.type"),
        (b'{"type": "Workers.X", "data": {}}', "$.type"),
        (b'{"type": "workers.x", "data": {}, "id": 7}', "$.id"),
        (b'{"type": "workers.x", "data": {}, "id": ""}', "$.id"),
        (b'{"type": "workers.x", "data": {}, "timestamp": "yesterday"}', "$.timestamp"),
        (b'{"type": "workers.x", "data": {}, "source": "a\\u0000b"}', "$.source"),
        (b'{"type": "workers.x", "data": {}, "priority": 1}', "$.priority"),
    ],
)
async def test_what_is_signed_and_no_event_is_a_400_that_says_where(tmp_path, body, path):
    async with opened(tmp_path, PLAIN) as world:
        document = refused(await send(world, body, inherited(body, event="workers.x")), 400, "Invalid input")
        assert path in {flaw["path"] for flaw in document["details"]}
        assert await kept(world) == []
        refused(await send(world, body, inherited(body, secret=b"x")), 401, "Invalid signature")


@pytest.mark.parametrize(
    "event_type",
    ["cron.run_failed", "service.registered", "webhook.test", "workers", "workersx.y", "email.processed"],
)
async def test_a_workers_service_speaks_of_itself_alone(world, event_type):
    body = body_of(type=event_type)
    document = refused(await send(world, body, standard(body)), 400, "Invalid input")
    assert [flaw["path"] for flaw in document["details"]] == ["$.type"]
    assert "/v1/events" in document["details"][0]["message"]
    assert await kept(world) == []


async def test_a_body_over_the_limit_is_a_413_and_another_type_a_415(tmp_path):
    async with opened(
        tmp_path, Settings(webhooks=SETTINGS.webhooks, http=HttpSettings(max_body_bytes=1024))
    ) as world:
        body = body_of(data={"x": "x" * 1000})
        refused(await send(world, body, standard(body)), 413, "Payload too large")
        body = body_of()
        for more in ({"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}):
            refused(await send(world, body, {**standard(body), **more}), 415, "Unsupported media type")
        assert await kept(world) == []


async def test_an_unreadable_delivery_id_is_given_back_as_text(world):
    body = body_of()
    for given, told in (("d-é".encode(), "d-é"), (b"d-\xff", "d-ÿ"), (b"x" * 4000, "x" * 4000)):
        answer = await send(world, body, {**standard(body), "X-Webhook-Delivery": given})
        assert (answer.status_code, answer.json()["deliveryId"]) == (200, told)


async def test_an_idempotency_key_answers_for_nobody(world):
    """The event's own key counts; a first answer must not be given to one who signs nothing."""
    body = body_of()
    key = {"Idempotency-Key": "k"}
    assert (await send(world, body, {**standard(body), **key})).status_code == 200
    refused(await send(world, body, {**JSON, **key}), 400, MISSING)


async def test_what_comes_in_is_counted_by_its_outcome(world):
    body = body_of()
    for headers in (standard(body), standard(body), JSON, {**standard(body), "webhook-id": "other"}):
        await send(world, body, headers)
    page = (await world.client.get("/metrics")).text
    for outcome in ("stored", "duplicate", "missing_headers", "invalid_signature"):
        assert f'econeura_webhooks_received_total{{outcome="{outcome}"}} 1.0' in page


async def test_the_answers_fit_the_document(world):
    import jsonschema

    document = (await world.client.get("/openapi.json")).json()
    body = body_of()
    for path in PATHS:
        operation = document["paths"][path]["post"]
        assert operation["security"] == []
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate((await send(world, body, standard(body), path)).json(), schema)
        request = operation["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.validate(EVENT, request)
    assert {route.path for route in ROUTES} > {*PATHS, "/v1/analytics/events"}


@pytest.mark.postgres
async def test_copies_at_two_daemons_on_one_postgresql_are_one_event(tmp_path, postgres_url):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    async with (
        opened(tmp_path / "one", url=postgres_url) as one,
        opened(tmp_path / "other", url=postgres_url) as other,
    ):
        await one.post("/v1/webhooks/subscriptions", {"url": "https://receiver.example/", "events": ["*"]})
        for number in range(5):
            # Two sources with one id, whose second id is made, come at once too.
            bodies = [body_of(source=source, id=f"e{number}") for source in ("workers", "workers-2")]
            answers = []

            async def post(world, body, number=number, answers=answers):
                signed = standard(body, message_id=f"e{number}")
                answers.append((body, (await send(world, body, signed)).json()))

            async with trio.open_nursery() as nursery:
                for world in (one, other) * 3:
                    for body in bodies:
                        nursery.start_soon(post, world, body)
            assert all(answer["success"] for _, answer in answers)
            for body in bodies:
                told = [answer.get("duplicate") for asked, answer in answers if asked == body]
                assert sorted(map(str, told)) == ["None", *["True"] * 5]
        counts = await other.counts()
        assert (counts["events"], counts["deliveries"]) == (10, 10)
