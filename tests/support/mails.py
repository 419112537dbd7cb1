"""Mails, and how programs put them into a Maildir, an mbox or a folder: by the rules of each."""

import fcntl
import itertools
import mailbox
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

_numbers = itertools.count(1)


class LateClock:
    """A clock that is a minute ahead: what was written just now has stood still for long."""

    def now(self):
        return datetime.now(UTC) + timedelta(minutes=1)


def mail(message_id, *, subject="A question", body="Hello.\n", extra=""):
    """Return the bytes of a plain mail; ``message_id`` None leaves the field out."""
    field = "" if message_id is None else f"Message-ID: <{message_id}>\n"
    return (
        f"From: Ana <ana@example.com>\nTo: help@example.org\nSubject: {subject}\n{field}{extra}"
        f"Date: Tue, 24 Nov 2026 10:00:00 +0000\n\n{body}"
    ).encode()


def make_maildir(path):
    for half in ("tmp", "new", "cur"):
        (Path(path) / half).mkdir(parents=True)
    return Path(path)


def deliver(maildir, content, *, flags=None):
    """Write to ``tmp`` and rename, as https://cr.yp.to/proto/maildir.html says; return the path."""
    name = f"1795514400.M{next(_numbers)}P{os.getpid()}.host"
    temporary = Path(maildir) / "tmp" / name
    temporary.write_bytes(content)
    target = (
        Path(maildir)
        / ("new" if flags is None else "cur")
        / (name + ("" if flags is None else f":2,{flags}"))
    )
    temporary.rename(target)
    return target


def append(mbox, content, *, when=None):
    """Append to an mbox under fcntl's lock as Postfix does, quoted and with a blank line behind."""
    when = when or datetime(2026, 11, 24, 10, tzinfo=UTC) + timedelta(seconds=next(_numbers))
    with Path(mbox).open("ab") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        file.seek(0, os.SEEK_END)
        file.write(b"From ana@example.com " + when.strftime("%a %b %d %H:%M:%S %Y").encode() + b"\n")
        file.write(re.sub(rb"(?m)^From ", b">From ", content))
        file.write(b"\n" if content.endswith(b"\n") else b"\n\n")


class Stores:
    """A store of one kind below ``root``, to put mails into and to see what is in it, without the code under test."""

    def __init__(self, kind, root):
        self.kind = kind
        self.path = Path(root) / {"maildir": "Maildir", "mbox": "inbox", "eml": "drop"}[kind]
        match kind:
            case "maildir":
                make_maildir(self.path)
            case "mbox":
                self.path.touch()
            case "eml":
                self.path.mkdir()

    def put(self, content):
        match self.kind:
            case "maildir":
                deliver(self.path, content)
            case "mbox":
                append(self.path, content)
            case "eml":
                number = next(_numbers)
                temporary = self.path / f".{number}"
                temporary.write_bytes(content)
                temporary.rename(self.path / f"{number}.eml")

    def contents(self, folder="INBOX"):
        """Return the mails in the folder, read with the standard library."""
        match self.kind:
            case "maildir":
                path = self.path if folder == "INBOX" else self.path / f".{folder}"
                if not path.exists():
                    return []
                return [f.read_bytes() for half in ("new", "cur") for f in sorted((path / half).glob("*"))]
            case "mbox":
                path = self.path if folder == "INBOX" else Path(f"{self.path}.folders") / f"{folder}.mbox"
                if not path.exists():
                    return []
                box = mailbox.mbox(path, create=False)
                try:
                    return [box.get_bytes(key) for key in box.keys()]  # noqa: SIM118 - a mailbox iterates over mails
                finally:
                    box.close()
            case "eml":
                path = self.path if folder == "INBOX" else self.path / folder
                return [f.read_bytes() for f in sorted(path.glob("*.eml")) if f.stat().st_size]
