"""A work on its way: from the caller to the writer and back."""

from collections.abc import Callable
from typing import Any

import trio

from econeura_daemon.storage.model import Work


class Submission:
    """One work that was handed to the writer, and what is to happen once it is committed.

    The loop creates it and reads it when it comes back; between the two it belongs to the writer's thread.
    """

    __slots__ = (
        "actions", "error", "ingest", "patience", "takes_room", "task", "topics", "undo", "value", "work",
    )  # fmt: skip

    def __init__(self, work: Work[Any], *, ingest: bool = False, takes_room: bool = True) -> None:
        self.work = work
        self.ingest = ingest
        self.takes_room = takes_room
        self.patience: trio.CancelScope | None = None
        self.task: trio.lowlevel.Task | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.actions: list[Callable[[], None]] = []
        self.undo: list[Callable[[], None]] = []
        self.topics: list[str] = []

    def undone(self) -> None:
        """Forget what the work did: its changes were rolled back."""
        for action in reversed(self.undo):
            action()
        self.value = None
        self.undo.clear()
        self.actions.clear()
        self.topics.clear()

    def fail(self, error: BaseException) -> None:
        """Undo the work and make ``error`` its result."""
        self.undone()
        self.error = error

    def again(self) -> None:
        """Undo the work and forget its result, so that it can run again."""
        self.undone()
        self.error = None


class Notes:
    """The part of a `Connection` that every database shares: what is to happen after the transaction."""

    submission: Submission | None = None

    def announce(self, topic: str) -> None:
        """See `Connection.announce`."""
        self._written().topics.append(topic)

    def after_commit(self, action: Callable[[], None]) -> None:
        """See `Connection.after_commit`."""
        self._written().actions.append(action)

    def on_rollback(self, action: Callable[[], None]) -> None:
        """See `Connection.on_rollback`."""
        self._written().undo.append(action)

    def _written(self) -> Submission:
        if self.submission is None:
            raise RuntimeError("a work that only reads has nothing to commit")
        return self.submission
