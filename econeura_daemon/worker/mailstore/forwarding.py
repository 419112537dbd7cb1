"""Sending a letter by SMTP (RFC 5321), and telling what became of it.

Until the dot that ends the letter, nothing was sent whatever happens; after it, without an answer, nobody knows.
"""

import re
import smtplib
import ssl
from contextlib import closing, suppress
from enum import StrEnum
from pathlib import Path

import attrs

from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.core.phrases import shortened
from econeura_daemon.worker.mailstore.model import Outcome

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_DOT = re.compile(rb"^\.", re.MULTILINE)


def is_address(text: str) -> bool:
    """Whether mail can be sent there: one address, in ASCII, that ends no command and opens no other."""
    return len(text) <= 254 and _ADDRESS.fullmatch(text) is not None


def _address(_: object, __: object, value: str) -> None:
    if not is_address(value):
        raise InvalidInputError.at(
            "$.sender", f"expected an e-mail address such as worker@example.com, got {shortened(value)!r}"
        )


class Security(StrEnum):
    """How the connection is kept from others' eyes: from the first byte, by STARTTLS, or not at all."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


@attrs.frozen(kw_only=True)
class MailServer:
    """Where mails are handed in: a submission server (port 587, or 465 with ``tls``), or a relay on this machine.

    ``sender`` is the address that letters come from and bounces go to; ``timeout`` in seconds holds for each answer.
    """

    host: str
    sender: str = attrs.field(validator=_address)
    port: int = 587
    security: Security = Security.STARTTLS
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    timeout: float = 30.0
    ca_file: Path | None = None


@attrs.frozen
class Sent:
    """What became of a letter; ``reason`` is the server's own word, or what went wrong."""

    outcome: Outcome
    reason: str | None = None


def send(server: MailServer, to: str, letter: bytes) -> Sent:
    """Send the letter. A refusal is a value: for good (5yz) or for now (4yz, and all that may be mended)."""
    try:
        with closing(_connect(server)) as session:
            return _hand_in(session, server, to, letter)
    except (OSError, smtplib.SMTPException) as error:  # refused, timed out, hung up, no TLS, a wrong password
        return Sent(Outcome.RETRY, f"{server.host}:{server.port}: {_said(error)}")


def _connect(server: MailServer) -> smtplib.SMTP:
    if server.security is Security.TLS:
        session: smtplib.SMTP = smtplib.SMTP_SSL(
            server.host, server.port, timeout=server.timeout, context=_context(server)
        )
    else:
        session = smtplib.SMTP(server.host, server.port, timeout=server.timeout)
    try:
        if server.security is Security.STARTTLS:
            session.starttls(context=_context(server))
        if server.user is not None:
            session.login(server.user, server.password or "")
        session.ehlo_or_helo_if_needed()
    except BaseException:
        session.close()
        raise
    return session


def _hand_in(session: smtplib.SMTP, server: MailServer, to: str, letter: bytes) -> Sent:
    for command in (f"MAIL FROM:<{server.sender}>", f"RCPT TO:<{to}>", "DATA"):
        code, answer = session.docmd(command)
        if code // 100 not in {2, 3}:
            return _refused(code, answer)
    session.send(_DOT.sub(b"..", letter))
    if not letter.endswith(b"\r\n"):
        session.send(b"\r\n")
    session.send(b".\r\n")
    try:
        code, answer = session.getreply()
    except (OSError, smtplib.SMTPException) as error:
        return Sent(Outcome.UNKNOWN, f"the server did not answer the letter: {_said(error)}")
    if code // 100 != 2:
        return _refused(code, answer)
    with suppress(OSError, smtplib.SMTPException):  # it has the letter
        session.docmd("QUIT")
    return Sent(Outcome.DONE)


def _refused(code: int, answer: bytes) -> Sent:
    outcome = Outcome.REFUSED if code // 100 == 5 else Outcome.RETRY
    return Sent(outcome, f"{code} {answer.decode(errors='replace')}"[:500])


def _context(server: MailServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server.ca_file)


def _said(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        return f"{error.smtp_code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"[:500]
    return str(error)[:500] or type(error).__name__
