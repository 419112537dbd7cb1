"""A daemon that is stopped for longer than any sleep of its ticker, as by a debugger or a frozen container."""

import itertools
import os
import signal
from datetime import datetime

import pytest
import trio

from tests.support.daemon import open_running_daemon, write_config
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(300)]

STOPPED = 70


@pytest.mark.parametrize("misfire", ["all", "latest"])
async def test_what_fell_due_while_the_daemon_was_stopped_has_each_its_one_run(tmp_path, misfire):
    action = {"kind": "event", "type": "clock.ticked"}
    job = {"id": "j", "name": "x", "schedule": "* * * * * *", "action": action, "misfire": misfire}
    async with open_running_daemon(write_config(tmp_path / "state")) as daemon, daemon.client() as client:
        assert (await client.post("/v1/cron/jobs", job)).status == 201

        async def runs():
            return (await client.get("/v1/cron/jobs/j/runs", {"limit": 250})).data["items"]

        async def has_run_for(seconds):
            found = await runs()
            return found if len(found) >= seconds else None

        await until(lambda: has_run_for(3), 10)
        os.kill(daemon.process.pid, signal.SIGSTOP)
        await trio.sleep(STOPPED)
        os.kill(daemon.process.pid, signal.SIGCONT)
        found = await until(lambda: has_run_for(STOPPED + 6), 30)
        ticks = sorted(datetime.fromisoformat(run["scheduledFor"]) for run in found)
        assert {(b - a).total_seconds() for a, b in itertools.pairwise(ticks)} == {1.0}
        missed = [run for run in found if run["status"] == "missed"]
        assert len(missed) == 0 if misfire == "all" else STOPPED - 2 <= len(missed) <= STOPPED
        assert {run["status"] for run in found} <= {"succeeded", "missed"}
        events = (await client.get("/v1/events", {"type": "clock.ticked", "limit": 250})).data["items"]
        assert 0 <= len(events) - (len(found) - len(missed)) <= 2, "a second or two have gone by since"
        daemon.terminate()
        assert await daemon.wait() == 0
