"""Whose turn it is: priorities by weight, and within a priority one organization after the other.

Urgent 8, high 4, normal 2, low 1, by smooth weighted round robin (nginx's): of fifteen turns for which all wait, the
low ones get one, spread evenly, so nothing starves. Within a priority the organizations that wait go round, so one
that asks for a thousand does not keep another waiting that asks for one; and where no more may wait, the last of the
longest queue gives way to a newcomer whose own is shorter (longest queue drop, as in Suter et al. 1998), so one that
asks for a thousand does not take every place either. Pure: nothing waits here.
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

    def give_way(self, priority: Priority, organization: str) -> T | None:
        """Return who leaves his place to a newcomer, and waits no longer; None: the newcomer has no better claim to it.

        A queue is as long as the turns that it takes, its number by the weight of its priority. The first of a queue
        never gives way, or the less urgent would not get their turns while all places are taken.
        """
        queues = [
            (len(queue) / one.weight, one, name)
            for one in self._classes.values()
            for name, queue in one.organizations.items()
            if len(queue) > 1
        ]
        if not queues:
            return None
        length, longest, name = max(queues, key=lambda queue: queue[0])
        own = self._classes[priority]
        if (len(own.organizations.get(organization, ())) + 1) / own.weight >= length:
            return None
        self._count -= 1
        return longest.organizations[name].pop()

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
