"""docs/http-api.md holds: its examples are run against the real app, its tables are compared with the code."""

import json
import re
import shlex
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.api.app import ROUTES
from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.server import PROBLEMS
from econeura_daemon.webhooks import Recorder, open_dispatcher
from econeura_daemon.webhooks.model import AttemptOutcome
from tests.support.api_world import BASE_URL, open_world
from tests.support.inline_store import open_inline_store
from tests.support.streams import open_stream

DOCUMENT = Path(__file__).parents[2] / "docs" / "http-api.md"
_EXAMPLE = re.compile(
    r"```sh\ncurl (?P<curl>.+?)\n```\n\nAnswer `(?P<status>\d+)`(?::\n\n```(?P<kind>json|text)\n(?P<answer>.*?)```)?",
    re.DOTALL,
)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@attrs.frozen
class Example:
    """One ``curl`` of the document, and what it says is answered."""

    arguments: list[str]
    status: int
    kind: str | None
    answer: str

    def request(self, variables):
        """Read the few options of curl that the document uses."""
        method, url, headers, body = None, None, [], None
        arguments = iter(self.arguments)
        for argument in arguments:
            match argument:
                case "-X":
                    method = next(arguments)
                case "-H":
                    name, _, value = next(arguments).partition(": ")
                    headers.append((name, value))
                case "-d":
                    body = next(arguments)
                case "-N":
                    pass
                case _:
                    assert not argument.startswith("-"), f"an option this test does not know: {argument}"
                    url = re.sub(r"\$([A-Z]+)", lambda name: variables[name[1]], argument)
        return method or ("GET" if body is None else "POST"), url, headers, body


def examples():
    text = DOCUMENT.read_text()
    found = [
        Example(shlex.split(match["curl"]), int(match["status"]), match["kind"], match["answer"] or "")
        for match in _EXAMPLE.finditer(text)
    ]
    assert len(found) == text.count("```sh"), "an example of another form"
    return found


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


def assert_like(shown, got, path="$"):
    """Compare an answer with the one that is shown, but for instants and where ``…`` stands."""
    if isinstance(shown, dict):
        assert isinstance(got, dict), path
        assert list(shown) == list(got), f"{path}: {list(shown)} is shown, {list(got)} came"
        for name, value in shown.items():
            assert_like(value, got[name], f"{path}.{name}")
    elif isinstance(shown, list):
        assert isinstance(got, list), path
        assert len(shown) == len(got), path
        for index, value in enumerate(shown):
            assert_like(value, got[index], f"{path}[{index}]")
    elif isinstance(shown, str) and _INSTANT.fullmatch(shown):
        assert _INSTANT.fullmatch(got), path
    elif isinstance(shown, str) and "…" in shown:
        pattern = ".*".join(map(re.escape, shown.split("…")))
        assert re.fullmatch(pattern, got), f"{path}: {shown!r} is shown, {got[:500]!r} came"
    elif path.endswith(".uptime"):
        assert got >= 0
    else:
        assert (type(shown), shown) == (type(got), got), path


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
        for example in examples():
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
