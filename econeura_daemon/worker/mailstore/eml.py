"""A folder of ``.eml`` files, with folders in it, as mail clients export them and other programs drop them.

Nothing says how a file comes to be there: programs rename a whole one into place, or write it while we look. A file
that was changed within the last seconds is looked at again, until it stands still.
"""

import os
from collections.abc import Callable
from pathlib import Path

import attrs

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.worker.mailstore.directories import Listing
from econeura_daemon.worker.mailstore.files import make_folder, read_file, sync_directory
from econeura_daemon.worker.mailstore.folder_names import shown
from econeura_daemon.worker.mailstore.heads import head_of
from econeura_daemon.worker.mailstore.index import Entry, Index
from econeura_daemon.worker.mailstore.model import INBOX, Kind, MailStoreUnavailableError

SETTLED = 2.0
"""Seconds without a change after which a file counts as whole."""

DEEPEST = 32
"""Folders within folders that are gone into."""


@attrs.define(eq=False)
class _Directory:
    listing: Listing
    entries: dict[str, Entry | None] = attrs.field(factory=dict)


class EmlFolder:
    """The layout of a folder of files."""

    kind = Kind.EML

    def __init__(self, root: Path, monotonic: Callable[[], float], clock: Clock) -> None:
        self._root = root
        self._monotonic = monotonic
        self._clock = clock
        self._directories: dict[str, _Directory] = {}  # by their path below the root; the root's is empty
        self._restless: dict[str, Entry] = {}
        self.unreadable = 0

    @property
    def notes(self) -> Path:
        """A hidden file at the root."""
        return self._root / ".econeura-marks"

    @property
    def folders(self) -> int:
        """How many folders there are, the root with them."""
        return len(self._directories)

    def scan(self, index: Index, *, thorough: bool) -> None:
        """Make the index true. Raises `MailStoreUnavailableError`."""
        try:
            self._scan_directory("", index, thorough=thorough)
        except OSError as error:
            raise MailStoreUnavailableError(f"The folder {self._root} cannot be read: {error}") from error
        for path in list(self._directories):
            if path:
                self._scan_known(path, index, thorough=thorough)
        self._look_at_restless(index)

    def read(self, entry: Entry, limit: int) -> bytes:
        """Return the mail."""
        return read_file(self._root / entry.place, limit)

    def put(self, entry: Entry, folder: str) -> bool:
        """Rename the file into the folder, onto a name that was reserved: nothing else is ever overwritten.

        A kill in between leaves an empty file, which is no mail.
        """
        source = self._root / entry.place
        target = self._root / folder
        make_folder(target, self._root)
        if not source.exists():
            return False
        reserved = _reserve(target, source)
        try:
            source.rename(reserved)
        except FileNotFoundError:
            reserved.unlink()
            return False
        sync_directory(target)
        sync_directory(source.parent)
        self._moved(entry, folder, reserved.name)
        return True

    def is_ready(self, entry: Entry) -> bool:
        """Whether the file has stood still for some seconds."""
        return entry.place not in self._restless

    def _moved(self, entry: Entry, folder: str, name: str) -> None:
        path, _, before = entry.place.rpartition("/")
        self._directories[path].entries.pop(before, None)
        self._restless.pop(entry.place, None)
        if folder not in self._directories:
            self._directories[folder] = _Directory(Listing(self._root / folder, self._monotonic))
        entry.folder, entry.place = folder, f"{folder}/{name}"
        self._directories[folder].entries[name] = entry

    def _scan_known(self, path: str, index: Index, *, thorough: bool) -> None:
        try:
            self._scan_directory(path, index, thorough=thorough)
        except (FileNotFoundError, NotADirectoryError):
            for name, entry in self._directories.pop(path).entries.items():
                self._drop(f"{path}/{name}", entry, index)
        except OSError:  # it may not be read any more: what is known of it stays
            self._directories[path].listing.forget()

    def _scan_directory(self, path: str, index: Index, *, thorough: bool) -> None:
        directory = self._directories.get(path)
        if directory is None:
            directory = _Directory(Listing(self._root / path, self._monotonic))
            directory.listing.has_changed()
            self._directories[path] = directory
        elif not directory.listing.has_changed() and not thorough:
            return
        if thorough:
            self._forget_unreadable(directory)
        files, below = _list(directory.listing.path)
        if directory.entries.keys() - files:
            files |= _list(directory.listing.path)[0]  # renames while we look can hide a name: see maildir.py
        prefix = f"{path}/" if path else ""
        for name in directory.entries.keys() - files:
            self._drop(prefix + name, directory.entries.pop(name), index)
        for name in sorted(files - directory.entries.keys()):
            directory.entries[name] = self._enter(prefix + name, shown(path) or INBOX, index)
        if thorough:
            self._look_again(directory, index)
        for name in sorted(below) if path.count("/") < DEEPEST else ():
            if prefix + name not in self._directories:
                self._scan_new(prefix + name, index)

    def _forget_unreadable(self, directory: _Directory) -> None:
        """Have what could not be opened tried again."""
        unreadable = [name for name, entry in directory.entries.items() if entry is None]
        self.unreadable -= len(unreadable)
        for name in unreadable:
            del directory.entries[name]

    def _scan_new(self, path: str, index: Index) -> None:
        try:
            self._scan_directory(path, index, thorough=False)
        except OSError:  # gone already, or not for us to read; the next change of it is looked at
            if path in self._directories:
                self._directories[path].listing.forget()

    def _enter(self, place: str, folder: str, index: Index) -> Entry | None:
        try:
            head = head_of(f"{self._root}/{place}")
        except OSError:
            self.unreadable += 1
            return None
        entry = Entry(head, folder, place)
        if self._is_young(entry) or head.size == 0:
            self._restless[place] = entry
        if head.size:
            index.add(entry)
        return entry

    def _drop(self, place: str, entry: Entry | None, index: Index) -> None:
        self._restless.pop(place, None)
        if entry is None:
            self.unreadable -= 1
        elif entry.head.size:
            index.remove(entry)

    def _look_again(self, directory: _Directory, index: Index) -> None:
        for entry in list(directory.entries.values()):
            if entry is not None:
                self._refresh(entry, index)

    def _look_at_restless(self, index: Index) -> None:
        for entry in list(self._restless.values()):
            self._refresh(entry, index)

    def _refresh(self, entry: Entry, index: Index) -> None:
        """Look whether the file has changed in place."""
        try:
            status = os.lstat(self._root / entry.place)
        except OSError:  # its directory has changed then
            return
        if (status.st_size, status.st_mtime_ns) != (entry.head.size, entry.head.arrived_ns):
            try:
                head = head_of(f"{self._root}/{entry.place}")
            except OSError:
                return
            if entry.head.size:
                index.remove(entry)
            entry.head = head
            if head.size:
                index.add(entry)
            self._restless[entry.place] = entry
        elif entry.head.size and not self._is_young(entry):
            self._restless.pop(entry.place, None)

    def _is_young(self, entry: Entry) -> bool:
        """Whether it changed a moment ago; one from the far future is not, or it would be for ever."""
        age = to_ms(self._clock.now()) / 1000 - entry.head.arrived_ns / 1e9
        return abs(age) < SETTLED


def _list(path: Path) -> tuple[set[str], set[str]]:
    """Return the names of files and of directories that are there for us: no links, nothing hidden."""
    files, directories = set(), set()
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                directories.add(entry.name)
            elif entry.name.lower().endswith(".eml"):
                files.add(entry.name)
    return files, directories


def _reserve(target: Path, source: Path) -> Path:
    """Create an empty file that has the source's name, or nearly, and return its path."""
    number = 0
    while True:
        name = f"{source.stem}-{number}{source.suffix}" if number else source.name
        try:
            os.close(os.open(target / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            number += 1
        else:
            return target / name
