"""An mbox: one file that MTAs append to, and beside it a folder for the files of other folders."""

from collections.abc import Callable
from pathlib import Path

import attrs

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.worker.mailstore.directories import names_in
from econeura_daemon.worker.mailstore.eml import SETTLED
from econeura_daemon.worker.mailstore.index import Entry, Index
from econeura_daemon.worker.mailstore.mbox_file import MboxFile
from econeura_daemon.worker.mailstore.mbox_filing import Filing
from econeura_daemon.worker.mailstore.model import INBOX, Kind, MailStoreUnavailableError


class Mbox:
    """The layout of an mbox."""

    kind = Kind.MBOX

    unreadable = 0  # what is no mail in the file belongs to the mail before it

    def __init__(self, path: Path, monotonic: Callable[[], float], clock: Clock) -> None:
        self._path = path
        self._beside = path.with_name(path.name + ".folders")
        self._clock = clock
        self._monotonic = monotonic
        self._filing = Filing(path, self._beside, clock)
        self._take_out_at = 0.0
        self._files = {str(path): MboxFile(path, INBOX, clock)}

    @property
    def notes(self) -> Path:
        """A file in the folder beside it."""
        return self._beside / "marks"

    @property
    def folders(self) -> int:
        """How many files there are."""
        return len(self._files)

    def scan(self, index: Index, *, thorough: bool) -> None:
        """Make the index true, and take what was filed out of the files where it was.

        That rewrites a file, so it is done for many mails at a time, and takes a tenth of the time at most.
        """
        try:
            self._find_folders()
            waiting = self._filing.waiting()
            if not waiting and not self._filing.is_unfinished():
                self._scan_files(index, set(), thorough=thorough)
            elif thorough or self._monotonic() >= self._take_out_at:
                started = self._monotonic()
                self._filing.take_out()
                self._scan_files(index, set(), thorough=thorough)
                ended = self._monotonic()
                self._take_out_at = ended + 10 * (ended - started)
            else:  # what was filed would be seen twice
                self._scan_files(index, {filed.source for filed in waiting}, thorough=thorough)
        except OSError as error:
            raise MailStoreUnavailableError(f"The mailbox {self._path} cannot be read: {error}") from error

    def read(self, entry: Entry, limit: int) -> bytes:
        """Return the mail."""
        return self._files[entry.place].read(entry, limit)

    def put(self, entry: Entry, folder: str) -> bool:
        """Copy the mail into the folder's file; the next scan takes it out of its own."""
        target = self._beside / f"{folder}.mbox"
        filed = self._filing.copy(entry, target)
        if filed is None:
            return False
        self._files[entry.place].entries.remove(entry)
        file = self._files.setdefault(filed.target, MboxFile(target, folder, self._clock))
        entry.folder, entry.place, entry.position = folder, filed.target, filed.start
        entry.head = attrs.evolve(entry.head, size=filed.length)
        file.entries.append(entry)
        return True

    def is_ready(self, entry: Entry) -> bool:
        """Whether the mail is there whole."""
        return self._files[entry.place].is_settled(entry, to_ms(self._clock.now()) - SETTLED * 1000)

    def _scan_files(self, index: Index, left_out: set[str], *, thorough: bool) -> None:
        for place in sorted(self._files.keys() - left_out):
            file = self._files[place]
            try:
                file.scan(index, thorough=thorough)
            except FileNotFoundError:
                if not self._path.parent.is_dir():
                    raise
                file.clear(index)  # MTAs and clients may remove an empty mailbox
                if file.folder != INBOX:
                    del self._files[place]

    def _find_folders(self) -> None:
        try:
            names = names_in(self._beside)
        except FileNotFoundError:
            return
        for name in sorted(names):
            path = self._beside / name
            if name.endswith(".mbox") and str(path) not in self._files and not path.is_symlink():
                self._files[str(path)] = MboxFile(path, name.removesuffix(".mbox"), self._clock)
