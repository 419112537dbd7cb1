"""What a worker's tasks act on: a Maildir, the rules that are shipped, the store; without its processes and sockets."""

from contextlib import asynccontextmanager
from datetime import datetime
from random import Random

import attrs
import trio

from econeura_daemon.core.clock import to_ms
from econeura_daemon.core.ids import new_id
from econeura_daemon.core.jsons import loads
from econeura_daemon.cron.model import Run, RunStatus, RunTrigger
from econeura_daemon.events import EventLog
from econeura_daemon.worker.mailstore import MailStore, open_mail_store
from econeura_daemon.worker.processing import Rules, UnprocessableError, process
from econeura_daemon.workers.model import Email, EmailStatus, Priority
from econeura_daemon.workers.store import emails as sql
from tests.support.inline_store import open_inline_store
from tests.support.mails import LateClock, deliver, mail, make_maildir

RULES = Rules.load()


class SetClock:
    """Stands at the instant that the test says."""

    def __init__(self, instant):
        self.set(instant)

    def set(self, instant):
        self.instant = datetime.fromisoformat(instant)

    def now(self):
        return self.instant


class Readers:
    """Read mails in the test's own process; ``trouble`` is raised in place of all."""

    def __init__(self):
        self.trouble = None
        self.read = []

    async def process(self, raw):
        await trio.lowlevel.checkpoint()
        self.read.append(raw)
        if self.trouble is not None:
            raise self.trouble
        if b"poison" in raw:
            raise UnprocessableError("it is poison")
        return process(raw, RULES)


@attrs.define
class WorkerRig:
    """What stands while it is open."""

    maildir: object
    mail_store: MailStore
    readers: Readers
    store: object
    log: EventLog
    clock: SetClock
    rng: Random

    def deliver(self, *message_ids, body="Hello, is there an invoice?\n"):
        for message_id in message_ids:
            deliver(self.maildir, mail(message_id, body=body))

    async def events(self, pattern="*"):
        """Return type and data of events, the oldest first."""
        found = await self.log.page(type=None if pattern == "*" else pattern, limit=1000)
        return [(one.type, loads(one.body)["data"]) for one in found[::-1]]

    async def record(self, instant, *, result=None, error=None, message_id="m@example.org"):
        """Write down what became of a mail at an instant."""
        at = datetime.fromisoformat(instant)
        email = Email(
            id=new_id("eml", at, self.rng),
            message_id=message_id,
            organization_id="acme",
            priority=Priority.NORMAL,
            status=EmailStatus.FAILED if error else EmailStatus.SUCCEEDED,
            result=None if error else result,
            error=error,
            recorded_at=to_ms(at),
        )
        await self.store.transact(lambda connection: sql.insert(connection, [email]))


@asynccontextmanager
async def open_worker_rig(tmp_path, *, now="2026-11-24T10:00:00+00:00"):
    maildir = make_maildir(tmp_path / "Maildir")
    clock, rng, readers = SetClock(now), Random(7), Readers()
    async with open_inline_store() as store:
        log = EventLog(store)
        mail_store = open_mail_store(maildir, clock=LateClock())
        yield WorkerRig(
            maildir=maildir,
            mail_store=mail_store,
            readers=readers,
            store=store,
            log=log,
            clock=clock,
            rng=rng,
        )


def run_at(instant, job_id="job", run_id="run_01"):
    """Return a run of a job's tick."""
    return Run(
        id=run_id,
        job_id=job_id,
        scheduled_for=to_ms(datetime.fromisoformat(instant)),
        trigger=RunTrigger.SCHEDULED,
        status=RunStatus.RUNNING,
        attempt=1,
    )
