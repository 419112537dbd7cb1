"""The workflows of docs/workflows.md between real processes: a daemon, workers services, receivers."""

import json
from datetime import UTC, datetime

import pytest
import standardwebhooks
import trio

from tests.support.daemon import open_running_daemon, write_config
from tests.support.receiver import open_receiver
from tests.support.scripted_workers import ok, open_workers_service, well
from tests.support.shapes import assert_shape
from tests.support.waiting import until

pytestmark = pytest.mark.slow

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
INBOUND = "/v1/workers/webhooks/workers"


def signed(body, message_id):
    now = datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(SECRET).sign(message_id, now, body.decode()),
    }


async def test_webhooks_go_round_and_end_and_a_kill_forgets_none_of_them(tmp_path):
    """In over the inbound route, out to a receiver and back to that very route: one event, whoever sends it again."""
    config = write_config(tmp_path / "state", extra=f'secret = "{SECRET}"')
    body = json.dumps({"type": "workers.error_occurred", "data": {"operation": "x"}}).encode()
    with trio.fail_after(60):
        async with open_receiver() as receiver:
            async with open_running_daemon(config) as daemon, daemon.client() as client:
                for url in (receiver.url, daemon.url + INBOUND):
                    made = await client.post(
                        "/v1/webhooks/subscriptions", {"url": url, "events": ["workers.*"]}
                    )
                    assert made.status == 201
                answer = await client.request("POST", INBOUND, body, signed(body, "msg-1"))
                assert answer.document["message"] == "Webhook received successfully"
                await receiver.wait_for(1)

                async def delivered():
                    stats = (await client.get("/v1/webhooks/stats")).data
                    return stats["deliveredDeliveries"] == 2

                await until(delivered)
                daemon.kill()
            async with open_running_daemon(config) as daemon, daemon.client() as client:
                answer = await client.request("POST", INBOUND, body, signed(body, "msg-1"))
                assert answer.document["duplicate"] is True
                events = (await client.get("/v1/analytics/events")).data["items"]
                assert [
                    (one["id"], one["source"]) for one in events if one["type"].startswith("workers.")
                ] == [("msg-1", "workers")]
        standardwebhooks.Webhook(SECRET).verify(receiver.received[0].body, receiver.received[0].headers)
        assert receiver.ids() == {"msg-1"}


async def register(client, workers, service_id):
    address = {"host": "127.0.0.1", "port": workers.port, "ttlMs": 600_000}
    made = await client.post("/v1/services", {"id": service_id, "type": "workers", **address})
    assert made.status in {200, 201}, made.body


def asking(message_id, **more):
    return {"messageId": message_id, "organizationId": "org-1", **more}


GARBAGE = {
    "no-json": (200, b"<html>it works</html>"),
    "half": (200, b'{"success": true, "data": {"resu'),
    "list": (200, []),
    "no-data": (200, {"success": True}),
    "no-result": ok({}),
    "result-is-text": ok({"result": "done"}),
    "no-success": (200, {"success": False, "error": "the rules are broken"}),
    "deep": (200, b'{"success": true, "data": {"result": ' + b"[" * 100 + b"]" * 100 + b"}}"),
    "nan": (200, b'{"success": true, "data": {"result": {"confidence": NaN}}}'),
    "refused": (400, {"title": "Invalid input", "detail": "no such organization"}),
    "no-http": b"220 mail.example ESMTP\r\n",
    "nothing": b"",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
}


async def test_a_worker_that_answers_nonsense_costs_that_e_mail_alone(tmp_path):
    """Each is a 502 that names the e-mail, and is told in the list; what is asked well is answered well meanwhile."""

    async def answer(asked):
        nonsense = GARBAGE.get(asked.body["messageId"]) if asked.body else None
        return await well(asked) if nonsense is None else nonsense

    config = write_config(
        tmp_path / "state", extra="[mesh.workers]\nretries = 0\ncircuit_breaker_threshold = 1000\n"
    )
    with trio.fail_after(60):
        async with (
            open_workers_service(answer) as workers,
            open_running_daemon(config) as daemon,
            daemon.client() as client,
        ):
            await register(client, workers, "w-1")
            for number, name in enumerate(GARBAGE):
                answered = await client.post("/v1/workers/emails/process", asking(name))
                assert answered.status == 502, (name, answered.body)
                assert_shape("emails/process failed", answered.document)
                assert answered.document["messageId"] == name
                answered = await client.post("/v1/workers/emails/process", asking(f"good-{number}"))
                assert answered.status == 200, (name, answered.body)
                assert_shape("emails/process", answered.document)
            kept = (await client.get("/v1/workers/emails", {"limit": 100})).data["items"]
            assert {one["messageId"] for one in kept if one["status"] == "failed"} == {*GARBAGE}
            assert all(one["error"] for one in kept if one["status"] == "failed")
            events = (await client.get("/v1/events", {"type": "email.*", "limit": 100})).data["items"]
            assert len(events) == len(GARBAGE)


async def test_a_slow_worker_is_passed_over_and_alone_a_504_that_names_the_e_mail(tmp_path):
    async def slow(asked):
        await trio.sleep(2)
        return await well(asked)

    config = write_config(
        tmp_path / "state", extra="[mesh.workers]\ntimeout_ms = 900\ntry_timeout_ms = 300\n"
    )
    answers = []

    async def ask(daemon, number):
        async with daemon.client() as client:
            for turn in range(6):
                answered = await client.post("/v1/workers/emails/process", asking(f"{number}-{turn}"))
                answers.append((answered.status, answered.data["serviceId"]))

    with trio.fail_after(60):
        async with (
            open_workers_service(slow) as snail,
            open_workers_service() as hare,
            open_running_daemon(config) as daemon,
            daemon.client() as client,
        ):
            await register(client, snail, "snail")
            await register(client, hare, "hare")
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(ask, daemon, number)
            assert {*answers} == {(200, "hare")}
            assert 0 < len(snail.asked) < 15  # then its breaker is open, or its latency is known
            keys = [asked.headers["idempotency-key"] for asked in (*snail.asked, *hare.asked)]
            assert len({*keys}) == len(answers)  # who is asked in another's stead is asked under the same key
            assert (await client.request("DELETE", "/v1/services/hare")).status == 200
            assert (await client.request("DELETE", "/v1/services/snail")).status == 200
            await register(client, snail, "another")
            answered = await client.post("/v1/workers/emails/process", asking("late"))
            assert (answered.status, answered.document["messageId"]) == (504, "late")
            assert answered.document["type"] == "/problems/upstream-timeout"
            assert_shape("emails/process failed", answered.document)
