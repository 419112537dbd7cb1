"""An mbox: one file that MTAs append to, and beside it a folder for the files of other folders."""

from pathlib import Path

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.worker.mailstore.directories import names_in
from econeura_daemon.worker.mailstore.eml import SETTLED
from econeura_daemon.worker.mailstore.index import Entry, Index
from econeura_daemon.worker.mailstore.mbox_file import MboxFile
from econeura_daemon.worker.mailstore.model import INBOX, Kind, MailStoreUnavailableError


class Mbox:
    """The layout of an mbox."""

    kind = Kind.MBOX

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._beside = path.with_name(path.name + ".folders")
        self._clock = clock
        self._files = {str(path): MboxFile(path, INBOX, clock)}

    @property
    def notes(self) -> Path:
        """A file in the folder beside it."""
        return self._beside / "marks"

    @property
    def folders(self) -> int:
        """How many files there are."""
        return len(self._files)

    @property
    def unreadable(self) -> int:
        """None: what is no mail in the file belongs to the mail before it."""
        return 0

    def scan(self, index: Index, *, thorough: bool) -> None:
        """Make the index true."""
        self._find_folders()
        for place, file in list(self._files.items()):
            try:
                file.scan(index, thorough=thorough)
            except FileNotFoundError:
                if not self._path.parent.is_dir():
                    raise MailStoreUnavailableError(f"The folder {self._path.parent} is not there") from None
                file.clear(index)  # MTAs and clients may remove an empty mailbox
                if file.folder != INBOX:
                    del self._files[place]
            except OSError as error:
                raise MailStoreUnavailableError(f"The mailbox {place} cannot be read: {error}") from error

    def read(self, entry: Entry, limit: int) -> bytes:
        """Return the mail."""
        return self._files[entry.place].read(entry, limit)

    def put(self, entry: Entry, folder: str) -> bool:
        """Append the mail to the folder's file, then take it out of its own."""
        raise NotImplementedError

    def is_settled(self, entry: Entry) -> bool:
        """Whether the mail is there whole."""
        return self._files[entry.place].is_settled(entry, to_ms(self._clock.now()) - SETTLED * 1000)

    def _find_folders(self) -> None:
        try:
            names = names_in(self._beside)
        except FileNotFoundError:
            return
        for name in sorted(names):
            path = self._beside / name
            if name.endswith(".mbox") and str(path) not in self._files and not path.is_symlink():
                self._files[str(path)] = MboxFile(path, name.removesuffix(".mbox"), self._clock)
