"""The workers service as a process beside a daemon: what one tells the other, over drains and kills."""

import signal

import pytest
import trio

from tests.support.daemon import open_running_daemon, write_config
from tests.support.mails import deliver, make_maildir
from tests.support.waiting import until
from tests.support.worker_rig import SECRET, invoice

PROCESS = "/v1/workers/emails/process"


@pytest.fixture
def mail(tmp_path):
    path = make_maildir(tmp_path / "mail")
    for number in range(3):
        deliver(path, invoice(f"{number}@example.com"))
    return path


def worker_config(tmp_path, mail, daemon_url):
    return write_config(
        tmp_path / "worker",
        f'secret = "{SECRET}"\n[worker]\nmail = "{mail}"\ndaemon_url = "{daemon_url}"\nprocesses = 1\n',
    )


def running_worker(config):
    state = {"STATE_DIRECTORY": str(config.with_suffix(""))}
    return open_running_daemon(config, state, command="worker")


def asking(number):
    return {"messageId": f"<{number}@example.com>", "organizationId": "acme"}


async def told(client, number):
    """Return the event of a mail, once the daemon has it."""

    async def look():
        items = (await client.get("/v1/analytics/events", {"type": "workers.email_processed"})).data["items"]
        return [one for one in items if one["data"]["messageId"] == f"<{number}@example.com>"]

    return await until(look)


async def workers(client):
    return (await client.get("/v1/services", {"type": "workers"})).data["items"]


async def test_it_registers_is_called_through_the_daemon_and_tells_it_and_leaves_when_it_is_told(
    tmp_path, mail
):
    daemon_config = write_config(tmp_path / "state", f'secret = "{SECRET}"\n')
    with trio.fail_after(90):
        async with (
            open_running_daemon(daemon_config) as daemon,
            running_worker(worker_config(tmp_path, mail, daemon.url)) as worker,
            daemon.client() as client,
        ):

            async def is_healthy():
                return [one for one in await workers(client) if one["status"] == "healthy"]

            (service,) = await until(is_healthy)
            answer = await client.post(PROCESS, asking(0))
            assert answer.status == 200
            assert answer.data["serviceId"] == service["id"]
            assert answer.data["result"]["metadata"]["category"] == "invoice"
            (event,) = await told(client, 0)
            assert event["source"] == "workers"
            assert event["data"]["result"] == answer.data["result"]
            assert event["data"]["workerId"] == service["id"]

            worker.terminate()
            assert await worker.wait() == 0
            assert await workers(client) == []
            assert (await client.post(PROCESS, asking(1))).status == 503


async def test_what_was_owed_when_it_was_killed_is_delivered_after_its_restart(tmp_path, mail):
    daemon_config = write_config(tmp_path / "state", f'secret = "{SECRET}"\n')
    with trio.fail_after(90):
        async with open_running_daemon(daemon_config) as daemon:
            port = daemon.url.rpartition(":")[2]
            config = worker_config(tmp_path, mail, daemon.url)
            daemon.terminate()
            await daemon.wait()
        async with running_worker(config) as worker, worker.client() as client:
            for number in (1, 2):
                assert (await client.post("/emails/process", asking(number))).status == 200
            worker.kill()  # nobody was there to be told
            assert await worker.wait() == -signal.SIGKILL
        daemon_config.write_text(daemon_config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        async with (
            open_running_daemon(daemon_config) as daemon,
            running_worker(config) as worker,
            daemon.client() as client,
        ):
            for number in (1, 2):
                assert len(await told(client, number)) == 1
            await until(lambda: workers(client))  # it is ready before it is registered
            worker.terminate()
            assert await worker.wait() == 0


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('secret = "' + SECRET + '"\n', "worker.mail: is not set"),
        ('[worker]\nmail = "{mail}"\n', "webhooks.secret: is not set"),
        ('secret = "' + SECRET + '"\n[worker]\nmail = "{mail}/nowhere"\n', "There is no mail store at"),
    ],
)
async def test_what_it_cannot_start_with_is_said(tmp_path, mail, section, said):
    config = write_config(tmp_path / "worker", section.format(mail=mail))
    with trio.fail_after(60), pytest.raises(AssertionError, match=said):
        async with running_worker(config):
            pass
