"""The workers service as a process beside a daemon: what one tells the other, over drains and kills."""

import re
import signal
import sqlite3
from contextlib import closing

import pytest
import trio

from tests.support.daemon import open_running_daemon, write_config
from tests.support.http_client import GoneError
from tests.support.mails import deliver, make_maildir
from tests.support.waiting import until
from tests.support.worker_rig import SECRET, invoice

PROCESS = "/v1/workers/emails/process"
LARGE = 6
"""Mails of 20 MB."""
LATE = 0.5
"""Seconds by which the worker's loop may be late: ten times the worst that was measured, for slow machines."""


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


async def test_a_kill_between_filing_a_mail_and_recording_it_has_it_processed_after_the_restart(
    tmp_path, mail
):
    config = worker_config(tmp_path, mail, "http://127.0.0.1:9")
    with trio.fail_after(90):
        async with running_worker(config) as worker, worker.client() as client:
            with closing(sqlite3.connect(worker.state_dir / "econeura.db", isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")  # so that nothing can be recorded
                async with trio.open_nursery() as nursery:

                    async def ask():
                        with pytest.raises(GoneError):
                            await client.post("/emails/process", asking(0))

                    nursery.start_soon(ask)
                    await until(lambda: _filed(mail))
                    worker.kill()
                    await worker.wait()
        config.write_text(config.read_text() + '[worker.jobs]\nemail_processing = "* * * * * *"\n')
        async with running_worker(config) as worker, worker.client() as client:

            async def is_told():
                page = await client.get("/v1/events", {"type": "workers.email_processed"})
                return len(page.data["items"]) == 3 and page.data["items"]

            items = await until(is_told)
            assert {one["data"]["messageId"] for one in items} == {f"{n}@example.com" for n in range(3)}
            assert {one["data"]["result"]["metadata"]["category"] for one in items} == {"invoice"}
            assert len(await _filed(mail)) == 3


async def _filed(mail):
    return list(mail.glob(".invoice/*/1795514400*"))


@pytest.mark.alone
async def test_the_loop_goes_on_while_mails_of_20_mb_are_processed_over_http(tmp_path, mail):
    page = b"<p>Adjunto la factura de 500 EUR, es urgente.</p>\n" * 45_000
    for number in range(LARGE):
        head = b"From: a@example.com\nSubject: Factura\nMessage-ID: <large%d@example.com>\n" % number
        parts = (
            b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n'
            b"--b\nContent-Type: text/html\n\n%s\n--b\nContent-Type: application/pdf\n"
            b"Content-Transfer-Encoding: base64\n\n%s\n--b--\n" % (page, b"QUJD" * 19 * 240_000)
        )
        deliver(mail, head + parts)
    config = worker_config(tmp_path, mail, "http://127.0.0.1:9")
    with trio.fail_after(90):
        async with running_worker(config) as worker, worker.client() as client, worker.client() as other:
            pulse = []

            async def look():
                while True:
                    begun = trio.current_time()
                    assert (await other.get("/livez")).status == 200
                    pulse.append(trio.current_time() - begun)
                    await trio.sleep(0.02)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                ids = [f"large{number}@example.com" for number in range(LARGE)]
                body = {"messageIds": ids, "organizationId": "acme"}
                answer = await client.post("/emails/process/bulk", body)
                nursery.cancel_scope.cancel()
            assert [one["result"]["metadata"]["category"] for one in answer.data["results"]] == (
                ["invoice"] * LARGE
            )
            loop = (await client.get("/health")).data["components"]["event_loop"]
            assert max(pulse) < LATE
            assert int(re.search(r"(\d+) ms", loop["detail"])[1]) < LATE * 1000


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
