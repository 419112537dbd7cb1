"""The workers service, whole, in the test's own process: real mails, real processes, real sockets."""

from contextlib import asynccontextmanager
from random import Random

import attrs

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.settings import DaemonSettings, Settings, WebhookSettings
from econeura_daemon.core.settings_worker import WorkerSettings
from econeura_daemon.supervision.drain import Drain
from econeura_daemon.supervision.notify import Notifier
from econeura_daemon.worker.compose import open_worker
from econeura_daemon.worker.effective import effective
from tests.support.http_client import open_client
from tests.support.mails import deliver, make_maildir

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cywgbG9uZw=="
INVOICE = (
    b"From: Ana <ana@example.com>\nTo: help@example.org\nSubject: Factura vencida, urgente\n"
    b"Message-ID: <%s>\nDate: Tue, 24 Nov 2026 10:00:00 +0000\n\n"
    b"Hola, adjunto la factura vencida de 1.200,50 EUR. Es urgente.\n"
)


def invoice(message_id):
    """Return the bytes of a mail that is to be filed as an invoice."""
    return INVOICE % message_id.encode()


def settings_of(tmp_path, **worker):
    """Return the settings of a worker over a Maildir that is made, with nobody at the daemon's address."""
    mail = tmp_path / "mail"
    if not mail.exists():
        make_maildir(mail)
    said = {"daemon_url": "http://127.0.0.1:9", "processes": 1, "state_dir": str(tmp_path / "worker")}
    settings = Settings(
        daemon=DaemonSettings(state_dir=str(tmp_path / "daemon"), drain_timeout_ms=5000),
        webhooks=WebhookSettings(secret=SECRET),
        worker=WorkerSettings(mail=str(mail), **{**said, **worker}),
    )
    return effective(settings, {})


@attrs.define
class Rig:
    """A worker at work, its Maildir, and a client."""

    worker: object
    mail: object
    client: object

    def put(self, *message_ids):
        for message_id in message_ids:
            deliver(self.mail, invoice(message_id))

    async def events(self, event_type="workers.*"):
        """Return what happened, the oldest first."""
        answer = await self.client.get("/v1/events", {"type": event_type})
        return answer.data["items"][::-1]


@asynccontextmanager
async def open_rig(tmp_path, *message_ids, **worker):
    """Run a worker for the length of the block over a Maildir with these mails."""
    settings = settings_of(tmp_path, **worker)
    for message_id in message_ids:
        deliver(tmp_path / "mail", invoice(message_id))
    async with (
        open_worker(
            settings, SystemClock(), Random(3), drain=Drain(5), environ={}, notifier=Notifier(None, "")
        ) as opened,
        open_client(opened.urls[0]) as client,
    ):
        yield Rig(opened, tmp_path / "mail", client)
