"""Opening a mail store, of whatever kind it is."""

import time
from collections.abc import Callable
from pathlib import Path

from econeura_daemon.core.clock import Clock, SystemClock
from econeura_daemon.worker.mailstore.eml import EmlFolder
from econeura_daemon.worker.mailstore.forwarding import MailServer
from econeura_daemon.worker.mailstore.layout import Layout
from econeura_daemon.worker.mailstore.mail_store import READ_LIMIT, MailStore
from econeura_daemon.worker.mailstore.maildir import Maildir
from econeura_daemon.worker.mailstore.marks import Marks
from econeura_daemon.worker.mailstore.mbox import Mbox
from econeura_daemon.worker.mailstore.model import Kind, MailStoreUnavailableError


def open_mail_store(
    path: Path,
    kind: Kind | str = Kind.AUTO,
    *,
    server: MailServer | None = None,
    marks: Path | None = None,
    read_limit: int = READ_LIMIT,
    clock: Clock | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> MailStore:
    """Open the store at ``path`` and read which mails it has: seconds for 100,000 of them.

    ``server`` is where forwarded mails are handed in; without it none is forwarded. ``marks`` is the file in which it
    is noted what was done, if the store is not to be written to. ``read_limit`` is the size in bytes of the largest
    mail that `MailStore.read` returns. Raises `MailStoreUnavailableError`.
    """
    clock = clock or SystemClock()
    path = Path(path)
    kind = Kind(kind)
    if kind is Kind.AUTO:
        kind = _kind_of(path)
    layout: Layout
    match kind:
        case Kind.MAILDIR:
            layout = Maildir(path.resolve(), monotonic)
        case Kind.MBOX:
            layout = Mbox(path.resolve(), monotonic, clock)
        case _:
            layout = EmlFolder(path.resolve(), monotonic, clock)
    store = MailStore(
        layout,
        Marks(marks or layout.notes),
        server=server,
        read_limit=read_limit,
        clock=clock,
        monotonic=monotonic,
    )
    store.begin()
    return store


def _kind_of(path: Path) -> Kind:
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(5)
        if start not in {b"", b"From "}:
            raise MailStoreUnavailableError(f"The file {path} is no mbox: it does not begin with 'From '")
        return Kind.MBOX
    if not path.is_dir():
        raise MailStoreUnavailableError(
            f"There is no mail store at {path}: expected a Maildir, an mbox file or a folder of .eml files"
        )
    return Kind.MAILDIR if (path / "cur").is_dir() and (path / "new").is_dir() else Kind.EML
