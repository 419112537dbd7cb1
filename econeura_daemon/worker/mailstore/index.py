"""Which mails have which Message-ID; in memory, made anew at every start.

Rebuilding costs less than a second per 10,000 mails (docs/worker.md has the figures), and a file of its own would have
to be kept true through every kill.
"""

from collections.abc import Iterator

import attrs

from econeura_daemon.worker.mailstore.heads import Head
from econeura_daemon.worker.mailstore.model import Changes


@attrs.define(eq=False)
class Entry:
    """One mail at one place. ``folder`` is the name that people see, ``place`` says to its layout where it lies."""

    head: Head
    folder: str
    place: str
    position: int = 0
    """Where it begins in the file ``place``, in bytes, if that holds many mails."""

    @property
    def message_id(self) -> str:
        """Its id in the index."""
        return self.head.message_id


class Index:
    """Entries by Message-ID. Who changes it holds the store's lock."""

    def __init__(self) -> None:
        self._first: dict[str, Entry] = {}
        self._others: dict[str, list[Entry]] = {}  # of ids that several mails have, which is rare
        self._added: dict[str, None] = {}
        self._removed: dict[str, None] = {}
        self.derived_ids = 0
        self.duplicates = 0
        """Mails whose id another one has too."""

    def __len__(self) -> int:
        return len(self._first) + self.duplicates

    def __iter__(self) -> Iterator[Entry]:
        yield from self._first.values()
        for others in self._others.values():
            yield from others

    def entries(self, message_id: str) -> list[Entry]:
        """Return the mails with this id, the one that was found first coming first."""
        first = self._first.get(message_id)
        return [] if first is None else [first, *self._others.get(message_id, ())]

    def firsts(self) -> Iterator[Entry]:
        """Return one mail for each id."""
        return iter(self._first.values())

    def add(self, entry: Entry) -> None:
        """Enter a mail."""
        self.derived_ids += entry.head.is_derived
        if entry.message_id in self._first:
            self._others.setdefault(entry.message_id, []).append(entry)
            self.duplicates += 1
            return
        self._first[entry.message_id] = entry
        if entry.message_id in self._removed:
            del self._removed[entry.message_id]
        else:
            self._added[entry.message_id] = None

    def remove(self, entry: Entry) -> None:
        """Take a mail out."""
        self.derived_ids -= entry.head.is_derived
        others = self._others.get(entry.message_id)
        if others is None:
            del self._first[entry.message_id]
            if entry.message_id in self._added:
                del self._added[entry.message_id]
            else:
                self._removed[entry.message_id] = None
            return
        self.duplicates -= 1
        if self._first[entry.message_id] is entry:
            self._first[entry.message_id] = others.pop(0)
        else:
            others.remove(entry)
        if not others:
            del self._others[entry.message_id]

    def take_changes(self) -> Changes:
        """Return which ids came and went since this was last asked; one that moved did neither."""
        changes = Changes(tuple(self._added), tuple(self._removed))
        self._added.clear()
        self._removed.clear()
        return changes
