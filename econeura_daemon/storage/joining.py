"""Works that can be done for many callers at once.

Of all that a work costs, most is the same whether it writes one row or ten: a savepoint, statements that are
begun and ended, what is read first. So works that do the same for different items are done together.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import attrs

from econeura_daemon.core.errors import StoreError
from econeura_daemon.storage.connection import Connection
from econeura_daemon.storage.works import Submission

Item = TypeVar("Item")
Value = TypeVar("Value")


@attrs.frozen
class Joint(Generic[Item, Value]):
    """A work that does ``act`` for one item, and may be joined with others of the same ``act``.

    ``act`` returns one value an item, in their order. If it raises, each item is tried alone.
    """

    act: Callable[[Connection, Sequence[Item]], Sequence[Value]]
    item: Item

    def __call__(self, connection: Connection) -> Value:
        """Do it for this item alone."""
        [value] = self.act(connection, [self.item])
        return value


@attrs.frozen
class Party:
    """Submissions that were joined, and the one that stands for them."""

    stand_in: Submission
    members: Sequence[Submission]

    def settle(self) -> bool:
        """Give each member its value, or the store's refusal; False if each has to be tried alone."""
        stand_in, members = self.stand_in, self.members
        if stand_in.error is None:
            for member, value in zip(members, stand_in.value, strict=True):
                member.value = value
            members[0].actions, members[0].topics = stand_in.actions, stand_in.topics
            return True
        if not isinstance(stand_in.error, StoreError):
            return False
        for member in members:
            member.fail(copy.copy(stand_in.error))  # tracebacks grow where exceptions are raised
        return True


def join(group: Sequence[Submission]) -> tuple[list[Submission], list[Party]]:
    """Return what is to be run in place of ``group``, and those of it that stand for several.

    A stand-in takes the place of its first member; the others come forward to it. They are all under way at
    the same time, so nobody was promised another order.
    """
    if len(group) == 1:
        return list(group), []
    to_run: list[Any] = []
    joined: dict[tuple[object, bool], list[Submission]] = {}
    for submission in group:
        work = submission.work
        if not isinstance(work, Joint):
            to_run.append(submission)
            continue
        key = (work.act, submission.ingest)
        members = joined.get(key)
        if members is None:
            members = joined[key] = []
            to_run.append(members)
        members.append(submission)
    parties = []
    for place, entry in enumerate(to_run):
        if isinstance(entry, Submission):
            continue
        if len(entry) == 1:
            to_run[place] = entry[0]
            continue
        to_run[place] = _stand_in(entry)
        parties.append(Party(to_run[place], entry))
    return to_run, parties


def _stand_in(members: Sequence[Submission]) -> Submission:
    works = [cast("Joint[Any, Any]", member.work) for member in members]
    act, items = works[0].act, [work.item for work in works]

    def work(connection: Connection) -> Sequence[Any]:
        return act(connection, items)

    return Submission(work, ingest=members[0].ingest, takes_room=False)
