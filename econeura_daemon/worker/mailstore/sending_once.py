"""Sending a mail on once, as far as that can be: the marks of the store say how far each one is.

A worker that dies between the letter's last byte and the mark leaves *unknown*, and it is not sent again: two letters
at a customer's are worse than a line in the log.
"""

from threading import RLock

import attrs

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.phrases import shortened
from econeura_daemon.worker.mailstore.forwarding import MailServer, Sent, is_address, send
from econeura_daemon.worker.mailstore.letters import is_ours, letter
from econeura_daemon.worker.mailstore.marks import Marks, Sending
from econeura_daemon.worker.mailstore.model import MailStoreUnavailableError, Outcome

_NOTED = {
    Outcome.DONE: Sending.SENT,
    Outcome.REFUSED: Sending.REFUSED,
    Outcome.RETRY: Sending.POSTPONED,
    Outcome.UNKNOWN: Sending.UNKNOWN,
}
_NOT_AGAIN = {
    Sending.SENT: Sent(Outcome.ALREADY),
    Sending.STARTED: Sent(Outcome.RETRY, "it is being sent at this moment"),
    Sending.UNKNOWN: Sent(Outcome.UNKNOWN, "the worker or the mail server died while it was being sent"),
}


@attrs.frozen
class Forwarder:
    """Sends mails on; ``lock`` guards the marks and is not held while a mail is sent."""

    server: MailServer | None
    marks: Marks
    lock: RLock
    clock: Clock

    def forward(self, message_id: str, raw: bytes, address: str | None) -> Sent:
        """Send the mail to ``address``, unless that was done.

        Raises `MailStoreUnavailableError` if nothing can be noted.
        """
        if self.server is None:
            return Sent(Outcome.NOT_CONFIGURED, "no mail server is configured")
        if address is None:
            return Sent(Outcome.NOT_CONFIGURED, "there is no address to forward to")
        if not is_address(address):
            return Sent(Outcome.NOT_CONFIGURED, f"{shortened(address)!r} is no e-mail address to forward to")
        if is_ours(raw):
            return Sent(Outcome.REFUSED, "this mail was forwarded from here and has come back")
        try:
            return self._send(self.server, message_id, raw, address)
        except OSError as error:
            raise MailStoreUnavailableError(f"Nothing can be noted in the store: {error}") from error

    def _send(self, server: MailServer, message_id: str, raw: bytes, to: str) -> Sent:
        text = letter(raw, message_id, sender=server.sender, to=to, clock=self.clock)
        with self.lock:
            hold = self.marks.begin_sending(message_id, to)
        if isinstance(hold, Sending):
            return _NOT_AGAIN[hold]
        try:
            sent = send(server, to, text)
            with self.lock:
                self.marks.note_sending(message_id, to, _NOTED[sent.outcome])
        finally:
            hold.let_go()
        return sent
