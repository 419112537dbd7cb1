"""What the store needs of a database: an engine that writes, and connections that read."""

from collections.abc import Sequence
from typing import Any, Protocol

from econeura_daemon.storage.model import Work
from econeura_daemon.storage.works import Submission


class Reader(Protocol):
    """One connection for reading; used by one thread at a time."""

    def read(self, work: Work[Any]) -> Any:
        """Run ``work`` in one consistent view. Raises what it raises, driver errors as `StoreError`."""
        ...

    @property
    def broken(self) -> bool:
        """Whether the connection is lost, to be closed and not used again."""
        ...

    def close(self) -> None:
        """Close the connection; never raises."""
        ...


class Engine(Protocol):
    """A database as its one writer's thread drives it. Nothing here is called by two threads at once."""

    backend: str

    def commit(self, group: Sequence[Submission]) -> None:
        """Run the works of ``group`` and commit them: afterwards each has its value or its error.

        Raises nothing but for a bug.
        """
        ...

    def trouble(self) -> str | None:
        """Tell why ingest is refused although the database answers (a quota), else None."""
        ...

    def tidy(self) -> None:
        """Do what should follow a group soon, when its results are out; never raises but for a bug."""
        ...

    def rest(self) -> bool:
        """Do what can wait until nobody waits: checkpoint, reconnect. True once there is nothing left of it.

        Raises `StoreError`.
        """
        ...

    def open_reader(self) -> Reader:
        """Open a connection for reading (called from any thread). Raises `StoreError`."""
        ...

    def close(self) -> None:
        """Checkpoint and close; never raises."""
        ...
