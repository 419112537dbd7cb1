"""Watching: who asked for a list waits until that list is another one, and is woken by nothing else.

Watchers stand by type and by query, so a change looks only at the queries of its own type and at those of none; a
thousand watchers with one query are one look. Nobody is missed: a watcher compares its index with the changes
behind it and stands down in one step, with no other task in between.
"""

from collections import deque

import attrs
import trio

from econeura_daemon.registry.model import Change, Instance, Status

REMEMBERED = 4096
"""Changes behind which an index is too old to tell what happened since: it is answered at once."""


@attrs.frozen
class Query:
    """Which instances; None: whatever it is."""

    type: str | None = None
    status: Status | None = None
    tag: str | None = None

    def matches(self, instance: Instance | None) -> bool:
        """Tell whether an instance is in the list."""
        return instance is not None and self._takes(*_traits(instance))

    def concerns(self, step: "Step") -> bool:
        """Tell whether the list is another one after a step."""
        return any(self._takes(*side) for side in step.sides)

    def _takes(self, type_: str, status: Status, tags: tuple[str, ...]) -> bool:
        return (
            (self.type is None or type_ == self.type)
            and (self.status is None or status is self.status)
            and (self.tag is None or self.tag in tags)
        )


Traits = tuple[str, Status, tuple[str, ...]]
"""What queries ask for: type, status and tags."""


def _traits(instance: Instance) -> Traits:
    return instance.type, instance.status, instance.registration.tags


@attrs.frozen
class Step:
    """What is remembered of a change that lists show: enough to tell whom it concerns.

    The instances themselves would be kept alive, with all that they said, for thousands of changes.
    """

    index: int
    sides: tuple[Traits, ...]
    """Before and after, as far as it was there."""

    @classmethod
    def of(cls, change: Change) -> "Step":
        """Return what is remembered of ``change``."""
        there = (one for one in (change.before, change.after) if one is not None)
        return cls(change.index, tuple(map(_traits, there)))


class Watchers:
    """Those that wait with one query. They all wake at once, so what one of them renders serves the others."""

    __slots__ = ("lot", "rendered")

    def __init__(self) -> None:
        self.lot = trio.lowlevel.ParkingLot()
        self.rendered: tuple[int, bytes] | None = None
        """The index and the answer that the first one to wake made; kept once, however many read it slowly."""


class Watches:
    """Who waits for what."""

    def __init__(self, index: int) -> None:
        self.index = index
        """Of the last change."""
        self._remembered: deque[Step] = deque(maxlen=REMEMBERED)
        self._oldest = index
        """An index before this one is unknown here, or too old."""
        self._waiting: dict[str | None, dict[Query, Watchers]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<Watches at {self.index}: {self.waiting} wait>"

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(one.lot) for queries in self._waiting.values() for one in queries.values())

    def note(self, change: Change) -> None:
        """Take notice of a committed change, and wake whom it concerns."""
        self.index = change.index
        if not change.is_seen:
            return
        if len(self._remembered) == REMEMBERED:
            self._oldest = self._remembered[0].index
        step = Step.of(change)
        self._remembered.append(step)
        types = {type_ for type_, _, _ in step.sides}
        for type_ in (*types, None):
            queries = self._waiting.get(type_)
            for query in [query for query in queries or () if query.concerns(step)]:
                self._wake(type_, query)

    def has_changed(self, query: Query, index: int) -> bool:
        """Tell whether the list may be another one than at ``index``; True if that cannot be told."""
        if self._closed or not self._oldest <= index <= self.index:
            return True
        for step in reversed(self._remembered):
            if step.index <= index:
                return False
            if query.concerns(step):
                return True
        return False

    async def wait(self, query: Query, index: int, seconds: float) -> Watchers | None:
        """Return once the list is another one than at ``index``, or after ``seconds``; at once if it is now.

        Returns those that were woken together by the change, None if it was none.
        """
        if self.has_changed(query, index):
            await trio.lowlevel.checkpoint()
            return None
        queries = self._waiting.setdefault(query.type, {})
        watchers = queries.get(query)
        if watchers is None:
            watchers = queries[query] = Watchers()
        with trio.move_on_after(seconds) as patience:
            try:
                await watchers.lot.park()
            except trio.Cancelled:
                self._forget_if_empty(query, watchers)
                raise
        return None if patience.cancelled_caught else watchers

    def close(self) -> None:
        """Wake everybody, and let nobody wait any more."""
        self._closed = True
        for type_, queries in list(self._waiting.items()):
            for query in list(queries):
                self._wake(type_, query)

    def _wake(self, type_: str | None, query: Query) -> None:
        """Wake all of one query; whoever comes from now on stands with others."""
        queries = self._waiting[type_]
        queries.pop(query).lot.unpark_all()
        if not queries:
            del self._waiting[type_]

    def _forget_if_empty(self, query: Query, watchers: Watchers) -> None:
        queries = self._waiting.get(query.type, {})
        if not watchers.lot and queries.get(query) is watchers:
            del queries[query]
            if not queries:
                del self._waiting[query.type]
