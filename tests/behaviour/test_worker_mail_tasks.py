"""What came in and nobody asked for is processed, a batch a run; no mail holds up the others."""

import pytest
import trio

from econeura_daemon.core.errors import StoreError
from econeura_daemon.cron import TaskFailedError
from econeura_daemon.worker.mails import Asked, Mails
from econeura_daemon.worker.mailstore import Action, Done, Outcome, open_mail_store
from econeura_daemon.worker.processing import ProcessorsUnavailableError
from econeura_daemon.worker.tasks.mails import EmailProcessing
from econeura_daemon.workers.recording import Recorder
from econeura_daemon.workers.waiting import Waiting
from tests.support.mails import LateClock
from tests.support.waiting import until
from tests.support.worker_tasks_rig import open_worker_rig, run_at

RUN = run_at("2026-11-24T10:00:00+00:00")


@pytest.fixture
async def rig(tmp_path):
    async with open_worker_rig(tmp_path) as opened:
        yield opened


def processing(rig, *, batch=3, waiting=None, **more):
    mails = Mails(
        store=rig.mail_store,
        processors=rig.readers,
        waiting=Waiting(lambda _under_way: 4, max_waiting=100, max_wait=5) if waiting is None else waiting,
        recorder=Recorder(rig.store, rig.log, rig.clock, rig.rng, source="workers"),
        worker_id="w-1",
        at_once=2,
    )
    return EmailProcessing(mails, organization_id="acme", batch=batch, at_once=2, **more)


async def test_mails_are_processed_a_batch_a_run_each_of_them_once(rig):
    task = processing(rig)
    rig.deliver(*(f"m{n}@example.org" for n in range(7)))
    rig.mail_store.scan()
    assert [await task(RUN) for _ in range(4)] == [
        "processed 3 mails, 0 of them in vain; more wait for the next run",
        "processed 3 mails, 0 of them in vain; more wait for the next run",
        "processed 1 mails, 0 of them in vain; none waits",
        "processed 0 mails, 0 of them in vain; none waits",
    ]
    told = await rig.events("workers.email_processed")
    assert sorted(data["messageId"] for _, data in told) == [f"m{n}@example.org" for n in range(7)]
    assert {data["organizationId"] for _, data in told} == {"acme"}


async def test_workers_of_one_store_share_what_came_in_and_none_does_what_another_did(rig):
    tasks = [processing(rig, batch=40), processing(rig, batch=40)]
    tasks[1]._mails.store = open_mail_store(rig.maildir, clock=LateClock())  # as another process has it
    rig.deliver(*(f"m{n}@example.org" for n in range(40)))
    for task in tasks:
        task._mails.store.scan()
    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(task, RUN)
    told = [data["messageId"] for _, data in await rig.events("workers.email_processed")]
    assert sorted(told) == sorted(f"m{n}@example.org" for n in range(40))


async def test_a_mail_that_somebody_asks_for_meanwhile_is_not_processed_again(rig):
    task = processing(rig)
    rig.deliver("m1@example.org", "m2@example.org")
    rig.mail_store.scan()
    listed = rig.mail_store.unprocessed(10)
    rig.mail_store.unprocessed = lambda _limit: listed
    rig.mail_store.carry_out("m1@example.org", Action.NONE)
    assert await task(RUN) == "processed 1 mails, 0 of them in vain; none waits"
    assert [data["messageId"] for _, data in await rig.events()] == ["m2@example.org"]


async def test_a_mail_that_nobody_can_read_is_told_of_once_and_holds_up_no_other(rig):
    task = processing(rig, batch=1)
    rig.deliver("bad@example.org", body="poison")
    rig.deliver("good@example.org")
    rig.mail_store.scan()
    assert await task(RUN) == "processed 1 mails, 1 of them in vain; more wait for the next run"
    assert await task(RUN) == "processed 1 mails, 0 of them in vain; none waits"
    assert [event_type for event_type, _ in await rig.events()] == [
        "workers.error_occurred",
        "workers.email_processed",
    ]


def refuse(_entry, _folder):
    raise PermissionError(13, "no")


async def test_a_mail_that_cannot_be_filed_is_given_up_after_some_runs(rig):
    task = processing(rig, again_after=0)
    rig.deliver("m@example.org", body="Invoice attached, please pay the invoice.\n")
    rig.mail_store.scan()
    rig.mail_store._layout.put = refuse
    words = [await task(RUN) for _ in range(4)]
    assert words == ["processed 1 mails, 1 of them in vain; none waits"] * 3 + [
        "processed 0 mails, 0 of them in vain; none waits"
    ]


async def test_a_mail_that_waits_for_a_mail_server_holds_up_no_other(rig):
    task = processing(rig, batch=1)
    rig.deliver("m1@example.org", "m2@example.org")
    rig.mail_store.scan()
    act = rig.mail_store.act

    def away(message_id, action, *more):
        if message_id == "m1@example.org":
            return Done(message_id=message_id, action=action, outcome=Outcome.RETRY, reason="no connection")
        return act(message_id, action, *more)

    rig.mail_store.act = away
    assert await task(RUN) == "processed 1 mails, 0 of them in vain; more wait for the next run"
    assert await task(RUN) == "processed 1 mails, 0 of them in vain; none waits"
    assert rig.mail_store.unprocessed(10) == ["m1@example.org"]
    told = await rig.events("workers.email_processed")
    assert [data["messageId"] for _, data in told] == ["m1@example.org", "m2@example.org"]


async def test_while_no_process_reads_mails_the_run_fails_and_nothing_is_given_up(rig):
    task = processing(rig)
    rig.deliver("m1@example.org", "m2@example.org")
    rig.mail_store.scan()
    rig.readers.trouble = ProcessorsUnavailableError("no process can be started")
    with pytest.raises(TaskFailedError, match=r"processed 0 mails.*no process can be started"):
        await task(RUN)
    rig.readers.trouble = None
    assert await task(RUN) == "processed 2 mails, 0 of them in vain; none waits"


async def test_what_nobody_asked_for_waits_behind_what_somebody_did(rig):
    task = processing(rig, waiting=Waiting(lambda _under_way: 0, max_waiting=0, max_wait=5))
    rig.deliver("m1@example.org")
    rig.mail_store.scan()
    assert await task(RUN) == "processed 0 mails, 0 of them in vain; more wait for the next run"


async def test_what_could_not_be_written_down_after_the_mail_was_filed_is_processed_again_wherever_it_lies(
    rig,
):
    rig.deliver("m@example.org", body="Invoice attached, please pay the invoice.\n")
    rig.mail_store.scan()
    task, transact = processing(rig), rig.store.transact

    async def away(_work):
        raise StoreError("the disk is full")

    rig.store.transact = away
    with pytest.raises(TaskFailedError, match="the disk is full"):
        await task(RUN)
    assert rig.mail_store.find("m@example.org").folder == "invoice"
    rig.store.transact = transact
    assert [await task(RUN) for _ in range(2)] == [
        "processed 1 mails, 0 of them in vain; none waits",
        "processed 0 mails, 0 of them in vain; none waits",
    ]
    assert [data["messageId"] for _, data in await rig.events()] == ["m@example.org"]


async def test_a_mail_of_a_bulk_that_is_filed_and_not_written_down_yet_is_not_begun_as_well(rig):
    rig.deliver("m1@example.org", "m2@example.org", body="Invoice attached, please pay the invoice.\n")
    rig.mail_store.scan()
    task, go = processing(rig), trio.Event()
    mails, read = task._mails, rig.readers.process

    async def slow(raw):
        if b"m2@" in raw:
            await go.wait()
        return await read(raw)

    rig.readers.process = slow
    asked = [Asked(message_id=f"<m{n}@example.org>", organization_id="acme") for n in (1, 2)]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mails.process_all, asked, float("inf"))
            await until(lambda: _is_filed(rig.mail_store, "m1@example.org"))
            assert await task(RUN) == "processed 0 mails, 0 of them in vain; none waits"
            go.set()
    assert rig.mail_store.unprocessed(10) == []
    assert len(await rig.events("workers.email_processed")) == 2


async def _is_filed(mail_store, message_id):
    return mail_store.find(message_id).folder == "invoice"
