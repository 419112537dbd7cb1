"""A Maildir (https://cr.yp.to/proto/maildir.html) with subfolders as Maildir++ has them: ``.Name/{cur,new,tmp}``.

A mail is delivered by a rename from ``tmp`` to ``new``; a mail client moves it to ``cur`` and renames it whenever its
flags change (``…:2,S``). What stands before the colon stays the same, and the content does too: a mail is read once.
"""

import os
from collections.abc import Callable
from pathlib import Path

import attrs

from econeura_daemon.worker.mailstore.directories import Listing, names_in
from econeura_daemon.worker.mailstore.files import make_folder, read_file, sync_directory
from econeura_daemon.worker.mailstore.folder_names import from_utf7, to_utf7
from econeura_daemon.worker.mailstore.heads import head_of
from econeura_daemon.worker.mailstore.index import Entry, Index
from econeura_daemon.worker.mailstore.model import INBOX, Kind, MailStoreUnavailableError

_KEYWORDS = str.maketrans("", "", "abcdefghijklmnopqrstuvwxyz")
_PASSES = 3
"""How often a folder is looked at again, at once, because mails were renamed while we looked."""

_LOOKS = 3
"""How often a directory is listed before a mail counts as gone."""
_CHASES = 20
"""How often a mail is followed that is renamed just when we open it."""


@attrs.define(eq=False)
class _Half:
    """``new`` or ``cur`` of a folder: which file is which mail; None for one that is no mail to us."""

    listing: Listing
    entries: dict[str, Entry | None] = attrs.field(factory=dict)


class Maildir:
    """The layout of a Maildir."""

    kind = Kind.MAILDIR

    def __init__(self, root: Path, monotonic: Callable[[], float]) -> None:
        self._root = root
        self._monotonic = monotonic
        self._listing = Listing(root, monotonic)
        self._folders: dict[str, tuple[_Half, _Half]] = {}
        self.unreadable = 0

    @property
    def notes(self) -> Path:
        """A file beside ``new`` and ``cur``, where Dovecot and Courier keep theirs; with a dot it would be a folder."""
        return self._root / "econeura-marks"

    @property
    def folders(self) -> int:
        """How many folders there are, the inbox with them."""
        return len(self._folders)

    def scan(self, index: Index, *, thorough: bool) -> None:
        """Make the index true."""
        try:
            if self._listing.has_changed() or thorough:
                self._find_folders(index)
        except OSError as error:
            raise MailStoreUnavailableError(f"The Maildir {self._root} cannot be read: {error}") from error
        for name in list(self._folders):
            try:
                self._scan_folder(name, index, thorough=thorough)
            except OSError as error:
                if name == INBOX:
                    raise MailStoreUnavailableError(
                        f"The Maildir {self._root} cannot be read: {error}"
                    ) from error
                self._listing.forget()  # the whole folder was deleted or renamed while we looked, or is not for us

    def read(self, entry: Entry, limit: int) -> bytes:
        """Return the mail."""
        path = self._root / entry.place
        for _ in range(_CHASES):
            try:
                return read_file(path, limit)
            except FileNotFoundError:
                path = _followed(path)
        return read_file(path, limit)

    def put(self, entry: Entry, folder: str) -> bool:
        """Rename the file into the folder: it is in the one or in the other at any moment."""
        source = self._root / entry.place
        target = self._root / f".{to_utf7(folder)}"
        self._make_folder(target)
        for _ in range(_CHASES):
            filed = target / source.parent.name / _filed_name(target, source.name)
            try:
                source.rename(filed)
            except FileNotFoundError:
                try:
                    source = _followed(source)
                except FileNotFoundError:
                    return False
                continue
            sync_directory(filed.parent)
            sync_directory(source.parent)
            self._moved(entry, folder, filed)
            return True
        return False

    def is_ready(self, entry: Entry) -> bool:
        """Whether it is neither a draft nor deleted; it is whole, for it is not seen before."""
        return not set("DT") & set(entry.place.partition(":2,")[2])

    def _moved(self, entry: Entry, folder: str, path: Path) -> None:
        before = self._root / entry.place
        for known in self._folders[entry.folder]:
            if known.listing.path == before.parent:
                known.entries.pop(before.name, None)
        new, cur = self._folders.setdefault(folder, self._halves_of(path.parent.parent))
        entry.folder, entry.place = folder, str(path.relative_to(self._root))
        (new if path.parent.name == "new" else cur).entries[path.name] = entry

    def _halves_of(self, path: Path) -> tuple[_Half, _Half]:
        return _Half(Listing(path / "new", self._monotonic)), _Half(Listing(path / "cur", self._monotonic))

    def _find_folders(self, index: Index) -> None:
        found = {INBOX: self._root}
        with os.scandir(self._root) as entries:
            for entry in entries:
                # A link could lead out of the store, or in a circle.
                if entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    path = self._root / entry.name
                    if os.path.isdir(path / "cur"):  # noqa: PTH112 - false, too, for what may not be looked into
                        found[from_utf7(entry.name[1:])] = path
        if not (self._root / "cur").is_dir():
            raise FileNotFoundError(f"there is no {self._root / 'cur'}")
        for name in self._folders.keys() - found.keys():
            for half in self._folders.pop(name):
                for gone in half.entries.values():
                    if gone is None:
                        self.unreadable -= 1
                    else:
                        index.remove(gone)
        for name in sorted(found.keys() - self._folders.keys()):
            self._folders[name] = self._halves_of(found[name])

    def _scan_folder(self, folder: str, index: Index, *, thorough: bool) -> None:
        halves = self._folders[folder]
        for _ in range(_PASSES):
            # ``new`` before ``cur``: a mail that moves while we look is seen in both rather than in neither.
            for half in halves if thorough else ():  # what could not be opened is tried again
                unreadable = [name for name, entry in half.entries.items() if entry is None]
                self.unreadable -= len(unreadable)
                for name in unreadable:
                    del half.entries[name]
            looks = [_look(half) if half.listing.has_changed() or thorough else None for half in halves]
            if not self._apply(folder, halves, looks, index):
                return

    def _apply(
        self, folder: str, halves: tuple[_Half, _Half], looks: list[set[str] | None], index: Index
    ) -> bool:
        """Enter what came and take out what went; return whether something was renamed while we looked."""
        moved: dict[str, Entry] = {}
        for half, names in zip(halves, looks, strict=True):
            for name in half.entries.keys() - names if names is not None else ():
                gone = half.entries.pop(name)
                if gone is None:
                    self.unreadable -= 1
                    continue
                if (twice := moved.get(_base(name))) is not None:
                    index.remove(twice)  # it moved while we looked, and was seen in two places
                moved[_base(name)] = gone
        missed = False
        for half, names in zip(halves, looks, strict=True):
            for name in sorted(names - half.entries.keys()) if names is not None else ():
                missed |= not self._enter(folder, half, name, moved.pop(_base(name), None), index)
        for gone in moved.values():
            index.remove(gone)
        return missed

    def _enter(self, folder: str, half: _Half, name: str, known: Entry | None, index: Index) -> bool:
        """Enter a name, of a mail that is ``known`` if it only moved; return False if it is gone already."""
        place = f"{half.listing.path.relative_to(self._root)}/{name}"
        if known is not None:
            known.place = place
            half.entries[name] = known
            return True
        try:
            entry = Entry(head_of(f"{self._root}/{place}"), folder, place)
        except FileNotFoundError:
            return False
        except OSError:
            half.entries[name] = None
            self.unreadable += 1
            return True
        half.entries[name] = entry
        index.add(entry)
        return True

    def _make_folder(self, path: Path) -> None:
        for part in (path, path / "tmp", path / "new", path / "cur"):
            make_folder(part, self._root)
        (path / "maildirfolder").touch()


def _look(half: _Half) -> set[str]:
    """Return the names in ``half``.

    A directory that is read while files are renamed in it may leave some out (POSIX leaves it open, and ext4 does so
    every few looks beside a busy client): a mail is gone only if no other look sees it either.
    """
    names = set(names_in(half.listing.path))
    for _ in range(_LOOKS - 1):
        if not half.entries.keys() - names:
            break
        names.update(names_in(half.listing.path))
    return names


def _filed_name(target: Path, name: str) -> str:
    """Return the name that the mail gets in another folder.

    Its small letters go: they are keywords of the folder that it leaves, and would mean others in this one. A name that
    is there already, which no delivery makes, gets a number.
    """
    base, colon, flags = name.partition(":2,")
    flags = colon + flags.translate(_KEYWORDS)
    first, comma, sizes = base.partition(",")
    number = 0
    filed = base + flags
    while any((target / half / filed).exists() for half in ("new", "cur")):
        number += 1
        filed = f"{first}-{number}{comma}{sizes}{flags}"
    return filed


def _followed(path: Path) -> Path:
    """Return the name that the mail has by now in its folder. Raises FileNotFoundError."""
    base = _base(path.name)
    for half in (path.parent.parent / "new", path.parent.parent / "cur"):
        for name in names_in(half):
            if _base(name) == base:
                return half / name
    raise FileNotFoundError(f"{path} is gone")


def _base(name: str) -> str:
    return name.partition(":")[0]
