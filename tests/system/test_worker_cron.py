"""Cron of a real worker, managed through a real daemon: switches outlive kills, and what ran is told to the daemon."""

from collections import Counter

import pytest

from tests.support.daemon import open_running_daemon, write_config
from tests.support.mails import deliver, mail, make_maildir
from tests.support.waiting import until

SECRET = 'secret = "a secret that daemon and workers share"\n'
JOBS = {
    "email_processing": "* * * * * *",
    "graph_sync": "*/2 * * * * *",
    "health_check": "* * * * * *",
    "daily_reports": "*/2 * * * * *",
}


@pytest.fixture
async def daemon(tmp_path):
    async with open_running_daemon(write_config(tmp_path / "daemon", extra=SECRET)) as running:
        yield running


def write_worker_config(tmp_path, daemon):
    state_dir = tmp_path / "worker"
    jobs = "".join(f'{name} = "{schedule}"\n' for name, schedule in JOBS.items())
    path = tmp_path / "worker.toml"
    path.write_text(
        f"[daemon]\ndrain_timeout_ms = 5000\n[webhooks]\n{SECRET}"
        f'[worker]\nstate_dir = "{state_dir}"\nmail = "{tmp_path / "Maildir"}"\nprocesses = 1\n'
        f'daemon_url = "{daemon.url}"\ninstance_id = "w-1"\n[worker.jobs]\n{jobs}'
    )
    return path


async def managed(client, job_id, action="status"):
    """Return the job as the daemon tells it, None while no worker answers."""
    body = {"jobId": job_id, "action": action, "organizationId": "acme"}
    answer = await client.post("/v1/workers/cron/manage", body)
    return answer.data["result"] if answer.status == 200 else None


async def told(client):
    """Return what the worker told the daemon: counts of executions by job, and message ids."""
    answer = await client.get("/v1/events", {"type": "workers.*", "limit": 250})
    events = answer.data["items"]
    executed = Counter(
        one["data"]["jobId"]
        for one in events
        if one["type"] == "workers.cron_executed" and one["data"]["status"] == "succeeded"
    )
    mails = Counter(one["data"]["messageId"] for one in events if one["type"] == "workers.email_processed")
    return executed, mails


async def test_jobs_run_are_told_of_and_stay_switched_over_a_kill(daemon, tmp_path):
    make_maildir(tmp_path / "Maildir")
    config = write_worker_config(tmp_path, daemon)
    ids = {f"m{number}@example.org" for number in range(5)}
    async with daemon.client() as client:
        async with open_running_daemon(config, command="worker") as worker:
            job = await until(lambda: managed(client, "health_check", "disable"))
            assert (job["id"], job["enabled"], job["declared"]) == ("health_check", False, True)
            for message_id in ids:
                deliver(tmp_path / "Maildir", mail(message_id))

            async def all_is_told():
                executed, mails = await told(client)
                return set(JOBS) - {"health_check"} <= set(executed) and ids <= set(mails)

            await until(all_is_told)
            worker.kill()
            await worker.wait()
        async with open_running_daemon(config, command="worker"):
            job = await until(lambda: managed(client, "health_check"))
            assert not job["enabled"], "nobody but a user switches it on again"
            runs = job["runCount"]
            job = await until(lambda: managed(client, "health_check", "enable"))
            assert job["enabled"]

            async def has_run():
                job = await managed(client, "health_check")
                return job is not None and job["runCount"] > runs and job

            job = await until(has_run)
            assert job["lastStatus"] == "succeeded"
            _, mails = await told(client)
            assert mails == Counter(ids), "each mail was processed once"
        (report,) = (tmp_path / "worker" / "reports").glob("daily-*.json")
        assert report.read_bytes().endswith(b"}\n")
