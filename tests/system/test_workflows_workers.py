"""The workflows of docs/workflows.md end to end: a daemon, workers services over one Maildir, a receiver."""

import json
from contextlib import aclosing
from itertools import product

import pytest
import standardwebhooks
import trio

from tests.support.shapes import assert_shape
from tests.support.waiting import until
from tests.support.worker import SECRET
from tests.support.workers_world import ORGANIZATION, open_workers_world

pytestmark = pytest.mark.slow

CONFIG = "[mesh.workers]\ncircuit_breaker_open_ms = 1000\n[discovery]\nheartbeat_interval_ms = 1000\n"


async def streamed(world, count):
    """Return the first so many events that the stream tells of e-mails and workers."""
    events, text = [], ""
    async with (
        world.daemon.client() as client,
        aclosing(client.stream("/v1/stream?types=workers.email_processed,email.*&after=0", {})) as pieces,
    ):
        async for piece in pieces:
            *blocks, text = (text + piece).split("\n\n")
            lines = [line for block in blocks for line in block.splitlines()]
            events += [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
            if len(events) >= count:
                break
    return events


async def test_e_mails_and_cron_jobs_are_told_of_stored_listed_and_streamed(tmp_path):
    jobs = '[worker.jobs]\nhealth_check = "@every 2s"\n'
    with trio.fail_after(90):
        async with open_workers_world(tmp_path, mails=12, extra=CONFIG, worker=jobs) as world:
            subscription = {"url": world.receiver.url, "events": ["email.*", "workers.email_processed"]}
            assert (await world.client.post("/v1/webhooks/subscriptions", subscription)).status == 201
            for message_id in world.ids:
                answer = await world.process(message_id, priority="high", metadata={"a": 1})
                assert answer.status == 200, answer.body
                assert_shape("emails/process", answer.document)
                assert answer.data["messageId"] == message_id
                assert answer.data["serviceId"] in world.workers
            await world.told(world.ids)
            pairs = {*product(("email.processed", "workers.email_processed"), world.ids)}
            await world.receiver.wait_for(len(pairs))
            arrived = set()
            for one in world.receiver.received:
                event = standardwebhooks.Webhook(SECRET).verify(one.body, one.headers)
                arrived.add((event["type"], event["data"]["messageId"]))
            assert arrived == pairs
            told = {(one["type"], one["data"]["messageId"]) for one in await streamed(world, len(pairs))}
            assert told == pairs
            for event in await world.events("workers.email_processed"):
                assert event["source"] == "workers"
                assert {*event["data"]} == {"messageId", "organizationId", "result", "workerId"}
            kept = (await world.client.get("/v1/workers/emails", {"status": "succeeded"})).data["items"]
            assert {one["messageId"] for one in kept} == {*world.ids}
            missing = await world.process("<nobody@has.this>")
            assert (missing.status, missing.document["messageId"]) == (502, "<nobody@has.this>")
            assert_shape("emails/process failed", missing.document)
            await cron_jobs_are_managed(world)


async def cron_jobs_are_managed(world):
    """Whichever worker is asked: each has its own."""

    async def manage(job_id, action):
        body = {"jobId": job_id, "action": action, "organizationId": ORGANIZATION}
        return await world.client.post("/v1/workers/cron/manage", body)

    actions = ("status", "disable", "enable")
    for action in actions:
        answer = await manage("weekly_export", action)
        assert answer.status == 200, answer.body
        assert_shape("cron/manage", answer.document)
        assert answer.data["result"]["enabled"] is (action != "disable")
    unknown = await manage("nonsense", "status")
    assert unknown.status == 404, unknown.body
    events = await world.events("cron.managed")
    assert [one["data"]["action"] for one in events] == [*reversed(actions)]

    async def both_have_told():
        events = await world.events("workers.cron_executed")
        assert all(one["data"]["status"] == "succeeded" for one in events)
        return {one["data"]["workerId"] for one in events} == {*world.workers}

    await until(both_have_told)


async def killed_in_mid_bulk(world, name):
    """Have all mails processed in bulk, and a worker killed as soon as it has told of one; return the answer."""
    async with world.daemon.client() as client, trio.open_nursery() as nursery:
        answers = []

        async def ask():
            body = {"messageIds": world.ids, "organizationId": ORGANIZATION}
            answers.append(await client.post("/v1/workers/emails/process/bulk", body))

        async def it_has_told():
            events = await world.events("workers.email_processed")
            return name in {one["data"]["workerId"] for one in events}

        nursery.start_soon(ask)
        await until(it_has_told)
        assert not answers, "the bulk was done before anybody could be killed"
        world.workers[name].kill()
    return answers[0]


async def test_a_worker_dies_in_mid_bulk_then_both_and_nothing_that_was_answered_is_lost(tmp_path):
    """Killed, they are passed over, then refused for; what they did not send yet they send when they come back."""
    with trio.fail_after(120):
        async with open_workers_world(tmp_path, mails=400, extra=CONFIG) as world:
            await world.quicken()
            answer = await killed_in_mid_bulk(world, "workers-2")
            assert_shape("emails/process/bulk", answer.document)
            assert [one["messageId"] for one in answer.data["results"]] == world.ids
            assert (answer.data["successful"], answer.data["failed"]) == (len(world.ids), 0)
            await world.becomes_healthy("workers-1")
            health = await world.client.get("/v1/workers/health")
            assert_shape("health", health.document)
            assert health.data["healthy"] is True
            assert sorted(one["status"] for one in health.data["services"]) == ["healthy", "unhealthy"]
            changes = await world.events("service.status_changed")
            assert ("workers-2", "unhealthy") in {
                (one["data"]["service"]["id"], one["data"]["newStatus"]) for one in changes
            }

            world.workers["workers-1"].kill()
            await world.workers["workers-1"].wait()
            slugs = []
            while slugs[-1:] != ["circuit-open"]:
                refused = await world.process(world.ids[0])
                assert_shape("emails/process failed", refused.document)
                assert refused.document["messageId"] == world.ids[0]
                slugs.append(refused.document["type"].removeprefix("/problems/"))
            assert {*slugs} == {"upstream-unreachable", "circuit-open"}
            assert refused.status == 503
            assert int(refused.headers["retry-after"]) >= 1
            (service,) = (await world.client.get("/v1/mesh", {"type": "workers"})).data["items"]
            assert "open" in {one["breaker"]["state"] for one in (service, *service["instances"])}
            await world.becomes_healthy()
            assert (await world.client.get("/v1/workers/health")).data["healthy"] is False

            async with trio.open_nursery() as nursery:
                for name in ("workers-1", "workers-2"):
                    nursery.start_soon(world.start, name)
            await world.becomes_healthy("workers-1", "workers-2")

            async def it_is_processed():
                answer = await world.process(world.ids[0])
                slugs.extend(["later"] * (answer.status != 200))
                return answer.status == 200

            await until(it_is_processed)
            await world.told(world.ids)
            stats = await world.client.get("/v1/workers/stats")
            assert_shape("stats", stats.document)

            for worker in world.workers.values():
                worker.terminate()
                assert await worker.wait() == 0
            refused = await world.process(world.ids[0])
            assert (refused.status, refused.document["type"]) == (503, "/problems/no-healthy-instance")
            assert_shape("emails/process failed", refused.document)
            kept = await world.client.get("/v1/workers/emails", {"status": "failed", "limit": 250})
            assert len(kept.data["items"]) == len(slugs) + 1
