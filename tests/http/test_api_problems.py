"""Every slug of docs/http-api.md is reached, over real sockets."""

import json
import re
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from econeura_daemon.api import find_passage, scope_of
from econeura_daemon.core.errors import (
    ConflictError,
    OutcomeUnknownError,
    StoreBusyError,
    StoreFullError,
    StoreUnavailableError,
)
from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.server import PROBLEMS, Principal, Scope
from tests.http.server_rig import serving
from tests.support.api_world import open_world
from tests.support.inline_store import open_inline_store
from tests.support.scripted_workers import open_workers_service

DOCUMENT = Path(__file__).parents[2] / "docs" / "http-api.md"
SLUGS = re.findall(
    r"^\| `([a-z0-9-]+)` \| \d{3} \| (?!the workers service:)", DOCUMENT.read_text(), re.MULTILINE
)
"""Those of the workers service are reached in its own tests."""
EVENT = b'{"type":"a","data":{}}'
EMAIL = b'{"messageId":"<a@b>","organizationId":"o"}'
INBOUND = "/v1/workers/webhooks/workers"
SIGNED = ("X-Webhook-Event: workers.a", "X-Webhook-Signature: sha256=" + 64 * "0")


class Reader:
    """``eco_reader`` may read; nobody else is known."""

    def authenticate(self, text, now):
        return Principal("reader", frozenset([Scope.READ])) if text == "eco_reader" else None


def post(body=EVENT, *headers, path="/v1/events", kind="application/json", length=None):
    """Return the bytes of one POST."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path="/v1/events", *headers, version="1.1", host="localhost", method="GET"):
    """Return the bytes of one request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", f"Host: {host}", *headers, "", ""]).encode()


REQUESTS = {
    "malformed-request": get("/ /"),
    "invalid-input": post(b"{}"),
    "unauthorized": get("/v1/events", "Forwarded: for=1.2.3.4"),
    "forbidden": post(EVENT, "Authorization: Bearer eco_reader"),
    "foreign-origin": post(EVENT, "Origin: https://evil.example"),
    "not-found": get("/nowhere"),
    "method-not-allowed": get("/v1/events", method="DELETE"),
    "request-timeout": post(b"{", length=10),
    "payload-too-large": post(b"x" * 1025),
    "uri-too-long": get("/" + "x" * 20_000),
    "unsupported-media-type": post(kind="text/plain"),
    "expectation-failed": post(EVENT, "Expect: 200-ok"),
    "misdirected-request": get(host="evil.example"),
    "headers-too-large": get("/v1/events", *(f"X-Filler-{n}: {'x' * 1000}" for n in range(100))),
    "missing-webhook-headers": post(path=INBOUND),
    "no-webhook-secret": post(EVENT, *SIGNED, path=INBOUND),
    "invalid-signature": post(EVENT, *SIGNED, path=INBOUND),
    "not-implemented": get("/v1/events", "Transfer-Encoding: br", method="POST"),
    "http-version-not-supported": get(version="3.0"),
}
FAILURES = {
    "conflict": ConflictError("it is being delivered"),
    "internal-error": ValueError("swordfish"),
    "outcome-unknown": OutcomeUnknownError("swordfish"),
    "overloaded": StoreBusyError("swordfish"),
    "store-unavailable": StoreUnavailableError("swordfish"),
    "store-full": StoreFullError("swordfish"),
}


async def reused_key(rig, _store):
    await rig.ask(post(EVENT, "Idempotency-Key: k"))
    return await rig.ask(post(b'{"type":"b","data":{}}', "Idempotency-Key: k"))


async def key_in_flight(rig, store):
    arrived, release, answers = trio.Event(), trio.Event(), []
    ingest = store.ingest

    async def wait(work):
        arrived.set()
        await release.wait()
        return await ingest(work)

    store.ingest = wait

    async def first():
        answers.append(await rig.ask(post(EVENT, "Idempotency-Key: k")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await arrived.wait()
        second = await rig.ask(post(EVENT, "Idempotency-Key: k"))
        release.set()
    assert answers[0].status == 202
    return second


async def one_that_fails(rig, _store):
    """Register an instance at a port that nobody listens to."""
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        body = {"id": "w", "type": "w", "host": "127.0.0.1", "port": port, "ttlMs": 60_000}
        assert (await rig.ask(post(json.dumps(body).encode(), path="/v1/services"))).status == 201
        return await rig.ask(get("/v1/mesh/w/x"))


async def nobody(rig, _store):
    return await rig.ask(get("/v1/mesh/nobody/x"))


async def open_circuit(rig, store):
    await one_that_fails(rig, store)
    for _ in range(2):
        answer = await rig.ask(get("/v1/mesh/w/x"))
    return answer


@asynccontextmanager
async def one_that_is_silent(rig):
    """Register an instance that accepts connections and says nothing."""
    with trio.socket.socket() as silent:
        await silent.bind(("127.0.0.1", 0))
        silent.listen()
        body = {"id": "w", "type": "w", "host": "127.0.0.1", "port": silent.getsockname()[1], "ttlMs": 60_000}
        assert (await rig.ask(post(json.dumps(body).encode(), path="/v1/services"))).status == 201
        yield


async def late(rig, _store):
    async with one_that_is_silent(rig):
        return await rig.ask(get("/v1/mesh/w/x", "X-Timeout-Ms: 100"))


async def too_many(rig, _store):
    async with one_that_is_silent(rig), trio.open_nursery() as nursery:
        for _ in range(20):  # the limit to begin with
            nursery.start_soon(rig.ask, get("/v1/mesh/w/x"))
        while b'"inFlight":20' not in (await rig.ask(get("/v1/mesh"))).body:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
        answer = await rig.ask(get("/v1/mesh/w/x", "X-Timeout-Ms: 100"))
        nursery.cancel_scope.cancel()
    return answer


async def a_worker_that_answers(rig, status):
    async def answer(_asked):
        return status, {"detail": "no"}

    async with open_workers_service(answer) as workers:
        body = {"type": "workers", "host": "127.0.0.1", "port": workers.port, "ttlMs": 60_000}
        assert (await rig.ask(post(json.dumps(body).encode(), path="/v1/services"))).status == 201
        return await rig.ask(post(EMAIL, path="/v1/workers/emails/process"))


async def failing_worker(rig, _store):
    return await a_worker_that_answers(rig, 500)


async def busy_worker(rig, _store):
    return await a_worker_that_answers(rig, 409)


MESH = {
    "workers-failed": failing_worker,
    "workers-busy": busy_worker,
    "no-healthy-instance": nobody,
    "upstream-unreachable": one_that_fails,
    "upstream-timeout": late,
    "circuit-open": open_circuit,
    "concurrency-limit": too_many,
}


async def reach(slug, rig, store):
    if slug in MESH:
        return await MESH[slug](rig, store)
    if slug in REQUESTS:
        return await rig.ask(REQUESTS[slug])
    if slug in FAILURES:
        store.trouble = FAILURES[slug]
        return await rig.ask(post())
    return await {"idempotency-mismatch": reused_key, "idempotency-in-flight": key_in_flight}[slug](
        rig, store
    )


@pytest.mark.parametrize("slug", SLUGS)
async def test_every_documented_slug_is_reached(slug):
    status, title = PROBLEMS[slug]
    with trio.fail_after(20):
        async with open_inline_store() as store, open_world(store) as world:
            async with serving(
                world.app,
                tokens=Reader(),
                scope_of=scope_of,
                find_passage=find_passage(world.services),
                max_body_bytes=1024,
                body_timeout_ms=100,
            ) as rig:
                if slug == "invalid-signature":
                    world.policies.use(WebhookSettings(secret="a secret"))  # what the signature does not know
                answer = await reach(slug, rig, store)
            document = json.loads(answer.body)
            assert (answer.status, document["type"]) == (status, f"/problems/{slug}")
            assert document["title"] == document["error"] == title
            assert b"swordfish" not in answer.body
