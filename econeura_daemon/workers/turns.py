"""Whose turn it is: priorities by weight, and within a priority one organization after the other.

Urgent 8, high 4, normal 2, low 1, by smooth weighted round robin (nginx's): of fifteen turns for which all wait, the
low ones get one, spread evenly, so nothing starves. Within a priority the organizations that wait go round, so one
that asks for a thousand does not keep another waiting that asks for one. Pure: nothing waits here.
"""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

import attrs

from econeura_daemon.workers.model import Priority

T = TypeVar("T")

WEIGHTS = {Priority.URGENT: 8, Priority.HIGH: 4, Priority.NORMAL: 2, Priority.LOW: 1}


@attrs.define(eq=False)
class _Class(Generic[T]):
    """Those who wait with one priority."""

    weight: int
    credit: int = 0
    organizations: "OrderedDict[str, deque[T]]" = attrs.field(factory=OrderedDict)
    """In the order of their next turns."""


class Turns(Generic[T]):
    """Who waits, and in which order they go."""

    def __init__(self) -> None:
        self._classes: dict[Priority, _Class[T]] = {
            priority: _Class(weight) for priority, weight in WEIGHTS.items()
        }
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def count(self, priority: Priority) -> int:
        """Return how many wait with a priority."""
        return sum(map(len, self._classes[priority].organizations.values()))

    def add(self, priority: Priority, organization: str, who: T) -> None:
        """Let ``who`` wait."""
        self._classes[priority].organizations.setdefault(organization, deque()).append(who)
        self._count += 1

    def remove(self, priority: Priority, organization: str, who: T) -> None:
        """Let ``who`` wait no longer. ValueError for whoever does not."""
        waiting = self._classes[priority].organizations
        queue = waiting.get(organization)
        if queue is None:
            raise ValueError("does not wait")
        queue.remove(who)
        if not queue:
            del waiting[organization]
        self._count -= 1

    def next(self) -> T:
        """Return whose turn it is, who waits no longer. IndexError if nobody waits."""
        live = [one for one in self._classes.values() if one.organizations]
        if not live:
            raise IndexError("nobody waits")
        for one in live:
            one.credit += one.weight
        chosen = max(live, key=lambda one: one.credit)  # of equals the most urgent
        chosen.credit -= sum(one.weight for one in live)
        for one in self._classes.values():
            if not one.organizations:
                one.credit = 0  # nobody saves turns up while nobody of his waits
        organization, queue = chosen.organizations.popitem(last=False)
        who = queue.popleft()
        if queue:
            chosen.organizations[organization] = queue
        self._count -= 1
        return who
