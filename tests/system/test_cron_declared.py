"""Declared jobs and the daemon's own one, in a real process: shown, run, and changed by SIGHUP."""

import signal
import sqlite3
from contextlib import closing

import pytest
import trio

from tests.support.daemon import open_running_daemon, write_config
from tests.support.receiver import open_receiver
from tests.support.waiting import until

pytestmark = pytest.mark.slow

OWN = {"ECONEURA__CRON__CLEANUP": "17 * * * *"}


def job(name, schedule):
    action = 'action = {kind = "event", type = "clock.ticked"}'
    return f'[[cron.jobs]]\nname = "{name}"\nschedule = "{schedule}"\n{action}\n'


async def schedules(client):
    jobs = (await client.get("/v1/cron/jobs")).data["items"]
    return {job["id"]: job["schedule"] for job in jobs if job["declared"]}


async def runs(client, job_id):
    return (await client.get(f"/v1/cron/jobs/{job_id}/runs")).data["items"]


async def test_sighup_takes_over_what_is_new_changed_or_gone_and_a_mistake_changes_nothing(tmp_path):
    config = write_config(tmp_path / "state", job("one", "@yearly") + job("two", "@yearly"))

    async def reloaded(daemon, client, extra, expected):
        write_config(tmp_path / "state", extra)
        daemon.process.send_signal(signal.SIGHUP)

        async def is_so():
            return await schedules(client) == expected

        await until(is_so, 10)

    async with open_running_daemon(config, OWN) as daemon, daemon.client() as client:
        own = {"econeura-cleanup": "17 * * * *"}
        assert await schedules(client) == {"one": "@yearly", "two": "@yearly", **own}
        assert (await client.request("DELETE", "/v1/cron/jobs/econeura-cleanup")).status == 409
        assert (await client.post("/v1/cron/jobs/econeura-cleanup/disable", {})).status == 200

        new = job("one", "@monthly") + job("three", "* * * * * *")
        await reloaded(daemon, client, new, {"one": "@monthly", "three": "* * * * * *", **own})

        async def has_run():
            return [run for run in await runs(client, "three") if run["status"] == "succeeded"]

        await until(has_run, 10)

        write_config(tmp_path / "state", job("one", "61 * * * *"))
        daemon.process.send_signal(signal.SIGHUP)

        async def is_refused():
            return any("61" in str(line) for line in daemon.log_lines())

        await until(is_refused, 10)
        assert (await schedules(client))["three"] == "* * * * * *"

        await reloaded(daemon, client, job("one", "@yearly"), {"one": "@yearly", **own})
        daemon.terminate()
        assert await daemon.wait() == 0

    async with open_running_daemon(config) as daemon, daemon.client() as client:
        assert await schedules(client) == {"one": "@yearly"}, "cron.cleanup is empty"


async def test_a_job_waits_for_its_service_as_long_as_it_says_itself(tmp_path):
    action = {"kind": "request", "service": "workers", "method": "POST", "path": "/slow"}
    job = {"id": "slow", "name": "x", "schedule": "@yearly", "action": action, "timeoutMs": 10_000}

    async def answer(_received):
        await trio.sleep(0.7)
        return 200

    config = write_config(tmp_path / "state", "[mesh.default]\ntimeout_ms = 200\n")
    async with (
        open_receiver(answer) as receiver,
        open_running_daemon(config) as daemon,
        daemon.client() as client,
    ):
        port = int(receiver.url.rsplit(":", 1)[1].split("/")[0])
        service = {"id": "w1", "type": "workers", "host": "127.0.0.1", "port": port, "ttlMs": 3_600_000}
        assert (await client.post("/v1/services", service)).status == 201
        assert (await client.post("/v1/cron/jobs", job)).status == 201
        assert (await client.post("/v1/cron/jobs/slow/run", {})).status == 202

        async def is_done():
            [run] = await runs(client, "slow")
            return run if run["finishedAt"] else None

        assert (await until(is_done, 10))["status"] == "succeeded"
        assert len([one for one in receiver.received if "idempotency-key" in one.headers]) == 1


async def test_the_daemons_own_job_forgets_what_the_settings_say(tmp_path):
    config = write_config(tmp_path / "state", "[retention]\nevents_ms = 60000\n")
    old = {"type": "a.b", "data": {}}
    async with open_running_daemon(config, OWN) as daemon, daemon.client() as client:
        for _ in range(3):
            assert (await client.post("/v1/events", old)).status == 202
        daemon.terminate()
        assert await daemon.wait() == 0
    with closing(sqlite3.connect(tmp_path / "state" / "econeura.db")) as connection, connection:
        connection.execute("UPDATE events SET occurred_at = occurred_at - 120000")
    async with open_running_daemon(config, OWN) as daemon, daemon.client() as client:
        assert (await client.post("/v1/cron/jobs/econeura-cleanup/run", {})).status == 202

        async def is_done():
            [run] = await runs(client, "econeura-cleanup")
            return run if run["finishedAt"] else None

        run = await until(is_done, 10)
        assert run["status"] == "succeeded", run
        assert "forgot 0 runs of jobs, 0 attempts, 0 deliveries, " in run["output"]
        left = (await client.get("/v1/events")).data["items"]
        assert [event["type"] for event in left if event["type"] == "a.b"] == []
