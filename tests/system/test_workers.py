"""E-mails through a real daemon and a workers service on a real socket: clients that leave, and a drain in mid-call."""

import json

import trio

from tests.support.daemon import open_running_daemon, write_config
from tests.support.scripted_workers import open_workers_service, well
from tests.support.waiting import until

PROCESS = "/v1/workers/emails/process"
EMAIL = {"messageId": "<a@example.org>", "organizationId": "acme"}
PATIENCE = 60


async def register(client, workers):
    body = {"id": "w-1", "type": "workers", "host": "127.0.0.1", "port": workers.port, "ttlMs": 600_000}
    assert (await client.post("/v1/services", body)).status == 201


async def connect(url):
    host, _, port = url.removeprefix("http://").partition(":")
    return await trio.open_tcp_stream(host, int(port))


async def ask_without_waiting(url, email):
    body = json.dumps(email).encode()
    head = (
        f"POST {PROCESS} HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    stream = await connect(url)
    await stream.send_all(head.encode() + body)
    return stream


async def test_a_connection_that_ends_in_mid_call_lets_go_of_the_worker_and_leaves_a_word_of_the_email(
    tmp_path,
):
    async def never(_asked):
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE):
        async with (
            open_workers_service(never) as workers,
            open_running_daemon(write_config(tmp_path / "state")) as daemon,
            daemon.client() as client,
        ):
            await register(client, workers)
            stream = await ask_without_waiting(daemon.url, EMAIL)
            await until(lambda: _is(workers.asked))
            await stream.aclose()

            async def is_recorded():
                items = (await client.get("/v1/workers/emails")).data["items"]
                return [one["status"] for one in items] == ["failed"]

            await until(is_recorded)
            stats = (await client.get("/v1/workers/stats")).data["workersClient"]
            assert stats["underWay"] == 0
            workers.answer = well
            assert (await client.post(PROCESS, EMAIL)).status == 200
            metrics = (await client.get("/metrics")).body.decode()
            assert 'econeura_emails_total{outcome="failed"} 1.0' in metrics
            assert 'econeura_emails_total{outcome="succeeded"} 1.0' in metrics
            health = (await client.get("/health")).data
            assert "workers" in health["features"]
            assert health["components"]["workers"]["status"] == "healthy"


async def test_a_drain_waits_for_the_email_under_way_and_a_restart_knows_what_became_of_it(tmp_path):
    go, answered = trio.Event(), []

    async def slow(asked):
        await go.wait()
        return await well(asked)

    config = write_config(tmp_path / "state")
    with trio.fail_after(PATIENCE):
        async with open_workers_service(slow) as workers:
            async with (
                open_running_daemon(config) as daemon,
                daemon.client() as client,
                daemon.client() as other,
                trio.open_nursery() as nursery,
            ):
                await register(client, workers)

                async def ask():
                    answered.append(await other.post(PROCESS, EMAIL, {"Idempotency-Key": "k"}))

                nursery.start_soon(ask)
                await until(lambda: _is(workers.asked))
                daemon.terminate()

                async def is_draining():
                    try:
                        stream = await connect(daemon.url)
                    except OSError:
                        return True
                    return await stream.aclose()

                await until(is_draining)
                go.set()
                assert await daemon.wait() == 0
            assert [one.status for one in answered] == [200]
            async with open_running_daemon(config) as daemon, daemon.client() as client:
                (email,) = (await client.get("/v1/workers/emails")).data["items"]
                assert email["status"] == "succeeded"
                again = await client.post(PROCESS, EMAIL, {"Idempotency-Key": "k"})
                assert (again.status, again.data) == (200, answered[0].data)
                assert len(workers.asked) == 1


async def _is(found):
    return bool(found)
