"""`kill -9` at random moments with hundreds of jobs due a second: every tick has its run, whatever happens.

A real daemon is killed over and over in the middle of ticking, on one store that lives on. The service that its jobs
call stands outside and keeps its own books; at the end the books must agree:

- every tick between a job's first and its last has exactly one run;
- a tick's event is in the log exactly once;
- a tick's request arrived at least once, always under the tick's own key, if its run succeeded;
- no run is left under way.
"""

from collections import Counter
from random import Random

import psycopg
import pytest
import trio

from tests.support.daemon import open_running_daemon, write_config
from tests.support.receiver import open_receiver
from tests.support.waiting import until

REQUESTS, EVENTS = 250, 250
"""Jobs of each kind, all due every second."""
SETTINGS = "[cron]\nkeep_runs = 1000000\n"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def storage(request, tmp_path):
    """The configuration of an empty store, and how to look into it when no daemon runs."""
    if request.param == "sqlite":
        import sqlite3
        from contextlib import closing

        def look(statement):
            with closing(sqlite3.connect(tmp_path / "state" / "econeura.db")) as connection:
                return connection.execute(statement).fetchall()

        return "", look

    url = request.getfixturevalue("postgres_url")

    def look_into_postgres(statement):
        with psycopg.connect(url) as connection:
            return connection.execute(statement).fetchall()

    return f'[storage]\nurl = "{url}"\n', look_into_postgres


async def create_jobs(client, port):
    service = {"id": "w1", "type": "workers", "host": "127.0.0.1", "port": port, "ttlMs": 3_600_000}
    assert (await client.post("/v1/services", service)).status == 201
    for n in range(REQUESTS):
        action = {"kind": "request", "service": "workers", "method": "POST", "path": f"/job/{n}"}
        job = {"id": f"request-{n}", "name": "x", "schedule": "* * * * * *", "action": action, "retries": 5}
        assert (await client.post("/v1/cron/jobs", {**job, "overlap": "allow"})).status == 201
    for n in range(EVENTS):
        action = {"kind": "event", "type": "clock.ticked", "data": {"job": n}}
        job = {"id": f"event-{n}", "name": "x", "schedule": "* * * * * *", "action": action}
        assert (await client.post("/v1/cron/jobs", job)).status == 201


async def nothing_is_open(client):
    stats = (await client.get("/v1/cron/stats")).data
    return stats["runningRuns"] == stats["queuedRuns"] == 0


@pytest.mark.rounds(short=3, soak=100)
@pytest.mark.timeout(5400)
@pytest.mark.slow
async def test_no_tick_is_lost_or_run_twice_by_kill_9(tmp_path, storage, rounds):
    extra, look = storage
    rng = Random(20261124)
    config = write_config(tmp_path / "state", extra=extra + SETTINGS)

    async def answer(_received):
        await trio.sleep(rng.uniform(0, 0.05))
        return 200

    async with open_receiver(answer) as receiver:
        async with open_running_daemon(config) as daemon, daemon.client() as client:
            await create_jobs(client, int(receiver.url.rsplit(":", 1)[1].split("/")[0]))
            daemon.kill()
            await daemon.wait()
        for _ in range(rounds):
            async with open_running_daemon(config) as daemon:
                await trio.sleep(rng.uniform(1.0, 3.0))  # the random moment
                daemon.kill()
                assert await daemon.wait() == -9
        async with open_running_daemon(config) as daemon, daemon.client() as client:
            for n in range(REQUESTS):
                await client.post(f"/v1/cron/jobs/request-{n}/disable", {})
            for n in range(EVENTS):
                await client.post(f"/v1/cron/jobs/event-{n}/disable", {})
            # Each round leaves some hundred requests in the queue: the daemon is off for longer than it is on.
            await until(lambda: nothing_is_open(client), 120 + 20 * rounds)
            daemon.terminate()
            assert await daemon.wait() == 0

    runs = look("SELECT job_id, scheduled_for, status, attempt FROM cron_runs")
    ticks = Counter((job_id, tick) for job_id, tick, _, _ in runs)
    assert max(ticks.values()) == 1, "a tick has two runs"
    by_job = {}
    for job_id, tick in ticks:
        by_job.setdefault(job_id, set()).add(tick)
    assert len(by_job) == REQUESTS + EVENTS
    for job_id, found in by_job.items():
        expected = range(min(found), max(found) + 1, 1000)
        assert found == set(expected), f"{job_id} lacks {sorted(set(expected) - found)[:5]}"

    statuses = Counter((job_id.split("-")[0], status) for job_id, _, status, _ in runs)
    assert {status for _, status in statuses} <= {"succeeded", "missed", "unknown"}, statuses
    assert statuses["request", "succeeded"] >= REQUESTS * rounds
    assert statuses["event", "succeeded"] >= EVENTS * rounds

    (published,) = look("SELECT count(*) FROM events WHERE type = 'clock.ticked'")
    assert published[0] == statuses["event", "succeeded"], "a tick's event is there exactly once"
    ended = dict(look("SELECT type, count(*) FROM events WHERE type LIKE 'cron.%' GROUP BY type"))
    assert ended["cron.run_succeeded"] == statuses["event", "succeeded"] + statuses["request", "succeeded"]
    assert ended.get("cron.run_missed", 0) == statuses["event", "missed"] + statuses["request", "missed"]

    from econeura_daemon.core.clock import format_ms

    keys = {one.headers["idempotency-key"] for one in receiver.received if "idempotency-key" in one.headers}
    owed = {
        f"cron:{job_id}:{format_ms(tick)}"
        for job_id, tick, status, _ in runs
        if job_id.startswith("request-") and status == "succeeded"
    }
    assert owed <= keys
    known = {f"cron:{job_id}:{format_ms(tick)}" for job_id, tick in ticks}
    assert keys <= known, "a request went out for which there is no run"
