"""docs/http-api.md holds: its examples are run against the real app, its tables are compared with the code."""

import json
import re
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.api.app import ROUTES
from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.server import PROBLEMS
from econeura_daemon.webhooks import Recorder, open_dispatcher
from econeura_daemon.webhooks.model import AttemptOutcome
from tests.support.api_world import BASE_URL, open_world
from tests.support.documented import assert_like, examples
from tests.support.inline_store import open_inline_store
from tests.support.streams import open_stream

DOCUMENT = Path(__file__).parents[2] / "docs" / "http-api.md"


@asynccontextmanager
async def open_delivering_world(store):
    """Open the API with a dispatcher whose receiver always says 200."""

    async def send(_outgoing):
        await trio.lowlevel.checkpoint()
        return AttemptOutcome(
            sent_at=world.clock.now(),
            duration_ms=12,
            status_code=200,
            response_headers={"content-type": "text/plain"},
            response_body=b"thanks",
        )

    class Observer:
        def attempted(self, outgoing, outcome, step, now):
            pass

    async with open_world(store) as world:
        services = world.services
        shared = {
            "store": store,
            "lanes": world.lanes,
            "policies": world.policies,
            "claimant": world.claimant,
            "clock": world.clock,
            "rng": Random(1),
        }
        recorder = Recorder(events=services.log, **shared)
        async with open_dispatcher(
            fan_out=world.fan_out, send=send, recorder=recorder, observer=Observer(), **shared
        ):
            yield world


def remember(variables, url, data):
    """Note the ids that later examples use."""
    data = data or {}
    if url.endswith("/v1/webhooks/subscriptions") and "id" in data:
        variables["SUBSCRIPTION"] = data["id"]
    elif url.endswith("/v1/events") and "id" in data:
        variables["EVENT"] = data["id"]
    elif "jobId" in data:
        variables["JOB"] = data["jobId"]
    elif url.endswith("/deliveries"):
        variables["DELIVERY"] = data["items"][0]["id"]


async def first_event(world, url):
    async with open_stream(world.asgi, url.partition("?")[2]) as reader:
        await reader.next()
        opening, event, _ = reader.raw.split("\n\n")
        return f"{opening}\n\n{event}\n\n"


async def test_every_example_answers_as_it_is_shown(autojump_clock):
    variables = {"URL": BASE_URL}
    async with open_inline_store() as store, open_delivering_world(store) as world:
        for example in examples(DOCUMENT.read_text()):
            method, url, headers, body = example.request(variables)
            where = " ".join(example.arguments)
            if "/workers" in url and "X-Webhook-Signature" in where:
                world.policies.use(WebhookSettings(secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
            if "-N" in example.arguments:
                assert_like(example.answer, await first_event(world, url), where)
                continue
            answer = await world.client.request(method, url, headers=headers, content=body)
            if "/v1/services" in url:
                await trio.sleep(1)  # instances are probed
            await wait_all_tasks_blocked()
            assert answer.status_code == example.status, f"{where}: {answer.text}"
            if example.kind is None:
                assert answer.content == b"", where
            elif example.kind == "text":
                flat = example.answer.replace("\n", "⏎")
                assert_like(flat, answer.text.replace("\n", "⏎"), where)
            elif ", …}" in example.answer:
                assert answer.text.startswith(
                    json.dumps(json.loads(example.answer.replace(", …", "")), separators=(",", ":"))[:-1]
                )
            else:
                assert_like(json.loads(example.answer), answer.json(), where)
                remember(variables, url, answer.json().get("data"))


def test_every_slug_and_its_status_is_listed_once_and_no_other():
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (\d{3}) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert dict(rows) == {slug: str(status) for slug, (status, _) in PROBLEMS.items()}
    assert len(rows) == len(dict(rows))


def test_every_route_has_its_section_and_no_other_has():
    sections = re.findall(r"^### `([A-Z]+) (/\S+)`$", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(sections) == sorted((route.method, route.path) for route in ROUTES)
