"""Three real daemons on one PostgreSQL run each tick once between them.

One of them is killed in mid-run, one has a clock that is off by 30 s. The service that the jobs call stands outside,
and is registered with each daemon, since every daemon has a registry of its own.
"""

from collections import Counter
from contextlib import AsyncExitStack

import psycopg
import pytest
import trio

from econeura_daemon.core.clock import format_ms
from tests.support.daemon import open_running_daemon, write_config
from tests.support.receiver import open_receiver
from tests.support.waiting import until

JOBS = 60


async def register(client, port):
    service = {"id": "w1", "type": "workers", "host": "127.0.0.1", "port": port, "ttlMs": 3_600_000}
    assert (await client.post("/v1/services", service)).status == 201


async def create_jobs(client):
    for n in range(JOBS):
        request = {"kind": "request", "service": "workers", "method": "POST", "path": f"/{n}"}
        event = {"kind": "event", "type": "clock.ticked", "data": {"job": n}}
        for kind, action in (("request", request), ("event", event)):
            job = {"id": f"{kind}-{n}", "name": "x", "schedule": "* * * * * *", "action": action}
            answer = await client.post("/v1/cron/jobs", {**job, "overlap": "allow", "retries": 5})
            assert answer.status == 201, answer.body


async def disable_jobs(client):
    for n in range(JOBS):
        for kind in ("request", "event"):
            await client.post(f"/v1/cron/jobs/{kind}-{n}/disable", {})


async def nothing_is_open(client):
    stats = (await client.get("/v1/cron/stats")).data
    return stats["runningRuns"] == stats["queuedRuns"] == 0


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.rounds(short=6, soak=60)
@pytest.mark.timeout(900)
async def test_three_daemons_run_each_tick_once_between_them(tmp_path, postgres_url, rounds):
    """``rounds``: seconds of ticks before and after the kill."""
    extra = f'[storage]\nurl = "{postgres_url}"\n[cron]\nlease_ms = 2000\nkeep_runs = 100000\n'
    configs = [write_config(tmp_path / name, extra=extra) for name in ("one", "two", "three")]
    hung = trio.Event()
    is_hanging = True

    async def answer(_received):
        if is_hanging and _received.headers.get("x-hang"):
            hung.set()
            await trio.sleep_forever()
        await trio.sleep(0.01)
        return 200

    def look(statement):
        with psycopg.connect(postgres_url) as connection:
            return connection.execute(statement).fetchall()

    async with open_receiver(answer) as receiver, AsyncExitStack() as stack:
        port = int(receiver.url.rsplit(":", 1)[1].split("/")[0])
        daemons = [await stack.enter_async_context(open_running_daemon(config)) for config in configs[:2]]
        wrong = ("-m", "tests.support.daemon_with_wrong_clock", "-30")
        daemons.append(await stack.enter_async_context(open_running_daemon(configs[2], program=wrong)))
        clients = [await stack.enter_async_context(daemon.client()) for daemon in daemons]
        for client in clients:
            await register(client, port)
        await create_jobs(clients[1])
        await trio.sleep(rounds)
        hanging = {
            "id": "hanging",
            "name": "x",
            "schedule": "0 0 1 1 *",
            "retries": 1,
            "action": {
                "kind": "request",
                "service": "workers",
                "method": "POST",
                "path": "/hang",
                "headers": {"X-Hang": "1"},
            },
        }
        assert (await clients[0].post("/v1/cron/jobs", hanging)).status == 201
        assert (await clients[0].post("/v1/cron/jobs/hanging/run", {})).status == 202
        with trio.fail_after(20):
            await hung.wait()
        (holder,) = look("SELECT claimed_by FROM cron_runs WHERE job_id = 'hanging'")
        victim = next(
            n
            for n, c in enumerate(configs)
            if (tmp_path / c.stem / "daemon_id").read_text().strip() in holder[0]
        )
        is_hanging = False
        daemons[victim].kill()  # in mid-run
        await daemons[victim].wait()
        survivor = clients[(victim + 1) % 3]

        async def repeated():
            runs = (await survivor.get("/v1/cron/jobs/hanging/runs")).data["items"]
            return runs[0] if runs[0]["status"] == "succeeded" else None

        run = await until(repeated, 30)
        assert run["attempt"] == 2
        await trio.sleep(rounds)
        await disable_jobs(survivor)
        await until(lambda: nothing_is_open(survivor), 60)

    runs = look("SELECT job_id, scheduled_for, status FROM cron_runs WHERE job_id <> 'hanging'")
    ticks = Counter((job_id, tick) for job_id, tick, _ in runs)
    assert max(ticks.values()) == 1
    by_job = {}
    for job_id, tick in ticks:
        by_job.setdefault(job_id, set()).add(tick)
    assert len(by_job) == 2 * JOBS
    for job_id, found in by_job.items():
        expected = set(range(min(found), max(found) + 1, 1000))
        assert found == expected, f"{job_id} lacks {len(expected - found)}"
        assert len(found) >= 2 * rounds
    statuses = Counter((job_id.split("-")[0], status) for job_id, _, status in runs)
    assert {status for _, status in statuses} <= {"succeeded", "missed"}, statuses
    (published,) = look("SELECT count(*) FROM events WHERE type = 'clock.ticked'")
    assert published[0] == statuses["event", "succeeded"]
    keys = {one.headers["idempotency-key"] for one in receiver.received if "idempotency-key" in one.headers}
    owed = {
        f"cron:{job_id}:{format_ms(tick)}"
        for job_id, tick, status in runs
        if job_id.startswith("request-") and status == "succeeded"
    }
    assert owed <= keys
    hangs = [one.headers["idempotency-key"] for one in receiver.received if one.headers.get("x-hang")]
    assert len(hangs) == 2
    assert len(set(hangs)) == 1

    (late,) = look("SELECT sum(late_count) FROM cron_jobs")
    assert late[0] <= len(runs) / 20, "the daemon whose clock is behind does not make the others wait for it"
