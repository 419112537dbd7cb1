"""The worker's index follows its mail store, and what does not work is named."""

from functools import partial

import pytest
import trio

from econeura_daemon.cron import TaskFailedError
from econeura_daemon.worker.processing import ProcessorsUnavailableError
from econeura_daemon.worker.tasks.health import HealthCheck
from econeura_daemon.worker.tasks.sync import MailSync
from tests.support.ports import free_port
from tests.support.worker_tasks_rig import open_worker_rig, run_at

RUN = run_at("2026-11-24T10:00:00+00:00")


@pytest.fixture
async def rig(tmp_path):
    async with open_worker_rig(tmp_path) as opened:
        yield opened


async def test_a_synchronisation_tells_what_came_and_went_whoever_noticed_it(rig):
    sync = MailSync(rig.mail_store)
    await sync(RUN)
    rig.deliver("m1@example.org", "m2@example.org")
    await sync.noticed(rig.mail_store.scan())
    rig.deliver("m3@example.org")
    assert (await sync(RUN)).startswith("3 mails in 1 folders: 3 added and 0 removed")
    next((rig.maildir / "new").iterdir()).unlink()
    assert (await sync(RUN)).startswith("2 mails in 1 folders: 0 added and 1 removed")
    rig.maildir.rename(rig.maildir.with_name("elsewhere"))
    with pytest.raises(TaskFailedError, match="Maildir"):
        await sync(RUN)


async def serve_well(stream):
    async with stream:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def health(rig, tmp_path, port, *, min_free_bytes=1):
    return HealthCheck(
        mail_store=rig.mail_store,
        sync=MailSync(rig.mail_store),
        processors=rig.readers,
        store=rig.store,
        state_dir=tmp_path,
        min_free_bytes=min_free_bytes,
        daemon_url=f"http://127.0.0.1:{port}/",
    )


async def test_all_that_a_worker_needs_is_used_and_found_well(rig, tmp_path):
    rig.deliver("m1@example.org")
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve_well, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        said = await health(rig, tmp_path, port)(RUN)
        nursery.cancel_scope.cancel()
    assert said.startswith("mail store: 1 mails; disk: ")
    assert "; database: answers; daemon: is reachable; processors: a mail in " in said


async def test_a_check_fails_with_everything_that_is_ill(rig, tmp_path):
    rig.maildir.rename(rig.maildir.with_name("elsewhere"))
    rig.readers.trouble = ProcessorsUnavailableError("no process can be started")
    rig.store.trouble = ProcessorsUnavailableError("the disk is gone")
    with pytest.raises(TaskFailedError) as caught:
        await health(rig, tmp_path, free_port(), min_free_bytes=1 << 62)(RUN)
    parts = [part.partition(": ")[0] for part in str(caught.value).split("; ")]
    assert parts == ["mail store", "disk", "database", "daemon", "processors"]


async def test_what_does_not_answer_is_ill_too(rig, tmp_path, autojump_clock):
    task = health(rig, tmp_path, 1)

    async def fine():
        await trio.lowlevel.checkpoint()
        return "fine"

    task._looks = {"database": trio.sleep_forever, "disk": fine}
    with pytest.raises(TaskFailedError, match="database: no answer within 20 s"):
        await task(RUN)
