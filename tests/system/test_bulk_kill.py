"""Daemons and workers that are killed in the middle of bulks: each e-mail has one outcome, and none is lost."""

import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, closing
from random import Random

import psycopg
import pytest
import trio

from tests.support import workers_program
from tests.support.daemon import open_running_daemon, write_config
from tests.support.scripted_workers import open_workers_service, well
from tests.support.waiting import until

BULK = "/v1/workers/emails/process/bulk"
CHUNK = 50
COUNT = 40 * CHUNK


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def storage(request, tmp_path):
    """The configuration of an empty store, and how to look into it when no daemon runs."""
    if request.param == "sqlite":

        def look(statement):
            with closing(sqlite3.connect(tmp_path / "state" / "econeura.db")) as connection:
                return connection.execute(statement).fetchall()

        return "", look

    url = request.getfixturevalue("postgres_url")

    def look_into_postgres(statement):
        with psycopg.connect(url) as connection:
            return connection.execute(statement).fetchall()

    return f'[storage]\nurl = "{url}"\n', look_into_postgres


def asked(count=COUNT):
    return {"messageIds": [f"<{n}@example.org>" for n in range(count)], "organizationId": "acme"}


async def register(client, port, key):
    service = {"id": key, "type": "workers", "host": "127.0.0.1", "port": port, "ttlMs": 3_600_000}
    assert (await client.post("/v1/services", service)).status == 201


async def begin(client):
    answer = await client.post(BULK, asked(), {"Prefer": "respond-async"})
    assert answer.status == 202, answer.body
    return answer.data["jobId"]


async def job_of(client, job_id):
    return (await client.get(f"/v1/workers/jobs/{job_id}", {"limit": 1})).data


async def ended(client, job_id, seconds=60):
    async def is_over():
        return (await job_of(client, job_id))["finishedAt"] is not None

    await until(is_over, seconds)
    return await job_of(client, job_id)


@asynccontextmanager
async def open_worker(seconds=0.05):
    """Run a worker for the length of the block; it is killed at the latest then."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-I", workers_program.__file__, str(seconds)], stdout=subprocess.PIPE
    )
    try:
        yield process, int(await process.stdout.receive_some())
    finally:
        with trio.CancelScope(shield=True):
            await kill(process)
            await process.stdout.aclose()


async def kill(process):
    if process.poll() is None:
        process.kill()
    await process.wait()


@pytest.mark.rounds(short=3, soak=100)
@pytest.mark.timeout(3600)
async def test_a_job_outlives_kill_9_with_one_outcome_for_each_email(tmp_path, storage, rounds):
    extra, look = storage
    rng = Random(20261124)
    config = write_config(tmp_path / "state", extra=extra)

    async def answer(request):
        await trio.sleep(rng.uniform(0.05, 0.2))
        return await well(request)

    known = []
    """How often each chunk had been asked for whenever a daemon was killed, and what was recorded by then."""
    async with open_workers_service(answer) as workers:
        async with open_running_daemon(config) as daemon, daemon.client() as client:
            await register(client, workers.port, "w-1")
            job_id = await begin(client)
            daemon.kill()
            await daemon.wait()
        for _ in range(rounds):
            async with open_running_daemon(config) as daemon:
                await trio.sleep(rng.uniform(0.1, 0.6))  # the random moment
                daemon.kill()
                assert await daemon.wait() == -9
            recorded = look("SELECT place FROM bulk_items WHERE email_id IS NOT NULL")
            known.append((len(workers.asked), {place // CHUNK for (place,) in recorded}))
        async with open_running_daemon(config) as daemon, daemon.client() as client:
            job = await ended(client, job_id)
            daemon.terminate()
            assert await daemon.wait() == 0

    assert (job["status"], job["done"], job["successful"]) == ("succeeded", COUNT, COUNT)
    places = look(
        "SELECT bulk_items.message_id, emails.message_id, emails.status FROM bulk_items "
        "JOIN emails ON emails.id = bulk_items.email_id ORDER BY place"
    )
    assert places == [(one, one, "succeeded") for one in asked()["messageIds"]]
    assert look("SELECT count(*) FROM emails") == [(COUNT,)], "an outcome is recorded twice"
    assert look("SELECT count(*) FROM events WHERE type = 'email.bulk_processed'") == [(1,)]

    by_key = {}
    for one in workers.asked:
        by_key.setdefault(one.headers["idempotency-key"], []).append(one.body["messageIds"])
    assert len(by_key) == COUNT / CHUNK, "a chunk has one key, however often it is asked for"
    assert all(ids.count(ids[0]) == len(ids) for ids in by_key.values())
    for count, recorded in known:
        later = {
            asked().get("messageIds").index(one.body["messageIds"][0]) // CHUNK
            for one in workers.asked[count:]
        }
        assert not later & recorded, "what was recorded is not asked for again"
    repeated = Counter(len(ids) for ids in by_key.values())
    assert max(repeated) > 1 or rounds < 3, "no kill came in mid-chunk"


async def test_a_worker_killed_in_mid_bulk_costs_no_email(tmp_path):
    config = write_config(tmp_path / "state")
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(open_running_daemon(config))
        client = await stack.enter_async_context(daemon.client())
        first, port = await stack.enter_async_context(open_worker())
        await register(client, port, "w-1")
        _, port = await stack.enter_async_context(open_worker())
        await register(client, port, "w-2")
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _():
                await trio.sleep(0.3)
                await kill(first)

            answer = await client.post(BULK, asked())
    assert answer.status == 200, answer.body
    assert [one["messageId"] for one in answer.data["results"]] == asked()["messageIds"]
    told = {one.get("error") for one in answer.data["results"]}
    assert (answer.data["successful"], answer.data["failed"]) == (COUNT, 0), told
    assert {one["serviceId"] for one in answer.data["results"]} == {"w-1", "w-2"}


async def test_with_all_workers_gone_a_bulk_is_refused_and_a_job_waits_for_others(tmp_path):
    config = write_config(tmp_path / "state")
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(open_running_daemon(config))
        client = await stack.enter_async_context(daemon.client())
        workers = [await stack.enter_async_context(open_worker()) for _ in range(2)]
        for n, (_, port) in enumerate(workers):
            await register(client, port, f"w-{n}")
        job_id = await begin(client)

        async def has_begun():
            return (await job_of(client, job_id))["done"] > 0

        await until(has_begun, 10)
        for process, _ in workers:
            await kill(process)

        async def are_known_to_be_gone():
            answer = await client.post(BULK, asked(60))
            assert answer.status in {200, 502, 503}, answer.body
            return answer.status == 503 and answer.document["type"] == "/problems/circuit-open"

        await until(are_known_to_be_gone, 20)
        job = await job_of(client, job_id)
        assert (job["status"], job["failed"]) == ("running", 0)
        _, port = await stack.enter_async_context(open_worker())
        await register(client, port, "w-3")
        job = await ended(client, job_id)
    assert (job["status"], job["successful"]) == ("succeeded", COUNT)
