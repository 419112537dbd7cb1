"""The four workflows, each as requests that anybody could type and what comes of them."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import trio

from benchmarks.demo.programs import ProgramError
from benchmarks.demo.transcript import Transcript
from benchmarks.demo.world import World
from econeura_daemon.core.clock import SystemClock
from econeura_daemon.webhooks.signing import econeura_signature, sign

ORGANIZATION = "org-demo"
INBOUND = "/v1/workers/webhooks/workers"

Wanted = Callable[[dict[str, Any]], bool]

_LONG = 300
"""Characters of a body that are shown."""


@attrs.frozen
class Stage:
    """Where it happens, and where it is told."""

    world: World
    transcript: Transcript

    async def ask(
        self, method: str, path: str, document: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        """Ask the daemon, and show it as one would type it; return the document."""
        parts = ["curl", f"$URL{path}"]
        parts += [f"-H '{name}: {value}'" for name, value in (headers or {}).items()]
        if document is not None:
            text = (
                document.decode() if isinstance(document, bytes) else json.dumps(document, ensure_ascii=False)
            )
            parts.append(f"--json '{text if len(text) < _LONG else f'{text[:_LONG]} …'}'")
        self.transcript.asks(" ".join(parts))
        status, answer = await self.world.call(method, path, document, headers)
        self.transcript.answers(status, answer.get("data", answer) if status < 400 else answer)
        return answer

    async def tell(
        self, where: str, wanted: Wanted, names: tuple[str, ...], *, count: int = 1, seconds: float = 20
    ) -> None:
        """Tell of so many things that come by themselves, and what they say under these names."""
        lines = self.world.streamed if where == "stream" else self.world.received
        found = await lines.wait_for(wanted, count, seconds)
        for one in found:
            facts = {**one.get("data", {}), **one}
            self.transcript.happened(where, {name: facts[name] for name in names if name in facts})
        if len(found) < count:
            raise ProgramError(f"{count} were to come to the {where} within {seconds:g} s; {len(found)} came")


async def emails(stage: Stage) -> None:
    """E-mail processing, to webhook, store, analytics events and stream."""
    say, ids = stage.transcript.says, stage.world.ids
    stage.transcript.title("1. E-mails are processed")
    say(
        "A client asks for a mail by its Message-ID. The daemon picks a worker, which finds it in its Maildir and "
        "processes it."
    )
    body = {"messageId": ids[0], "organizationId": ORGANIZATION, "priority": "urgent"}
    await stage.ask("POST", "/v1/workers/emails/process", body)
    say(
        "The daemon recorded the result together with the event email.processed. The worker told of it too, in a "
        "signed webhook that is an event now. Both are on the stream, and went to whoever subscribed:"
    )
    await stage.tell("stream", _about(ids[0]), ("type", "source", "id"), count=2)
    await stage.tell(
        "receiver", lambda one: _about(ids[0])(one["body"]), ("event", "verified", "status"), count=2
    )
    say("(A worker that has just come gets its full share after ten seconds; so long nothing happens here.)")
    await trio.sleep(10)
    say(
        "Many at once go in chunks of fifty to whoever is expected to answer soonest. One that fails does not fail "
        "the others:"
    )
    body = {"messageIds": [*ids[1:131], "<nobody@has.this>"], "organizationId": ORGANIZATION}
    answer = await stage.ask("POST", "/v1/workers/emails/process/bulk", body)
    stage.transcript.happened("bulk", _counted(item["serviceId"] for item in answer["data"]["results"]))
    say("What became of each is kept, and so are the events:")
    await stage.ask("GET", "/v1/workers/emails?status=failed")
    await stage.ask("GET", "/v1/analytics/events?type=workers.*&limit=1")


async def crons(stage: Stage) -> None:
    """Cron management, to status and webhook."""
    say = stage.transcript.says
    stage.transcript.title("2. The workers' cron jobs are managed")
    say("How a job of the workers' own is; off; and on again:")
    for action in ("status", "disable", "enable"):
        body = {"jobId": "email_processing", "action": action, "organizationId": ORGANIZATION}
        await stage.ask("POST", "/v1/workers/cron/manage", body)
    say("Each of these is an event:")
    await stage.tell("stream", _of_type("cron.managed"), ("type", "jobId", "action", "serviceId"), count=3)
    say("What a job did comes back as a signed webhook (here health_check runs every ten seconds):")
    names = ("type", "jobId", "status", "durationMs", "workerId")
    await stage.tell("stream", _of_type("workers.cron_executed"), names, seconds=30)


async def health(stage: Stage) -> None:
    """Health monitoring, to breaker, balancer and statistics."""
    world, say = stage.world, stage.transcript.says
    stage.transcript.title("3. A worker dies")
    await stage.ask("GET", "/v1/workers/health")
    say("workers-2 is killed, without a chance to say goodbye. Calls go on meanwhile:")
    world.workers["workers-2"].kill()
    by = []
    for message_id in world.ids[131:151]:
        body = {"messageId": message_id, "organizationId": ORGANIZATION}
        status, answer = await world.call("POST", "/v1/workers/emails/process", body)
        by.append(answer["data"]["serviceId"] if status == 200 else str(status))
    stage.transcript.happened("20 mails", _counted(by))
    await stage.tell("stream", _became("unhealthy"), ("type", "newStatus", "reason"), seconds=60)
    say("The balancer knows it too:")
    _, answer = await world.call("GET", "/v1/mesh?type=workers")
    for instance in answer["data"]["items"][0]["instances"]:
        facts = {"status": instance["status"], "breaker": instance["breaker"]["state"]}
        stage.transcript.happened(instance["id"], facts)
    say("It comes back, over the state that it left:")
    begun = len(world.streamed.seen)
    await world.begin_workers("workers-2")
    later = world.streamed.seen
    await stage.tell(
        "stream",
        lambda event: _became("healthy")(event) and event not in later[:begun],
        ("type", "newStatus", "reason"),
        seconds=30,
    )
    await stage.ask("GET", "/v1/workers/stats")


async def webhooks(stage: Stage) -> None:
    """Webhook communication."""
    world, say = stage.world, stage.transcript.says
    stage.transcript.title("4. Webhooks, in and out")
    say("Anybody with the secret may sign as Standard Webhooks do; the same message twice is one event:")
    event = {
        "id": "evt_demo",
        "type": "workers.error_occurred",
        "data": {"operation": "demo", "error": "none"},
    }
    body, now = json.dumps(event).encode(), int(SystemClock().now().timestamp())
    signed = {
        "webhook-id": "evt_demo",
        "webhook-timestamp": str(now),
        "webhook-signature": sign([world.secret], "evt_demo", now, body),
    }
    for _ in range(2):
        await stage.ask("POST", INBOUND, body, signed)
    say("The inherited signature does as well; with one byte changed neither does, and without one nothing:")
    signed = {
        "X-Webhook-Event": "workers.error_occurred",
        "X-Webhook-Delivery": "del_1",
        "X-Webhook-Signature": econeura_signature(world.secret, body),
    }
    await stage.ask("POST", INBOUND, body, signed)
    await stage.ask("POST", INBOUND, body.replace(b"none", b"nope"), signed)
    await stage.ask("POST", INBOUND, body)
    say("What came in went out again, once:")
    await stage.tell("receiver", lambda one: one["id"] == "evt_demo", ("event", "id", "verified", "status"))
    await stage.ask("GET", "/v1/webhooks/stats")


WORKFLOWS = (emails, crons, health, webhooks)


def _about(message_id: str) -> Wanted:
    return lambda event: event["data"].get("messageId") == message_id


def _of_type(event_type: str) -> Wanted:
    return lambda event: event["type"] == event_type


def _became(status: str) -> Wanted:
    return lambda event: event["type"] == "service.status_changed" and event["data"]["newStatus"] == status


def _counted(names: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(name or "nobody" for name in names).items()))
