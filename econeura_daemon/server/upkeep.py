"""What would otherwise be a task or a timer a connection: deadlines, and clients that leave.

A sweep over all connections every `TICK` costs less than one timer a request would. What it looks for are
plain attributes, which cost nothing to set. Of those that an application is at work for, whose sockets nobody
may be reading, it asks in one ``poll`` whether the client is still there: requests that are answered within a
tick pay nothing, streams and long polls a microsecond a tick. The question is asked anew every time, so
nothing that was missed once is missed for good.
"""

import select
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from econeura_daemon.server.connection import Drain

TICK = 0.1
"""Seconds. Deadlines are missed, and clients that leave are noticed, by this late at most."""

_RESET = select.POLLERR | select.POLLHUP


class Attended(Protocol):
    """A connection, as far as it is attended to here."""

    deadline: float
    """When `wake` is to be called, by Trio's clock; not before."""
    is_idle: bool
    """Whether it waits for a request."""

    @property
    def is_answering(self) -> bool:
        """Whether an application is at work on a request."""
        ...

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        ...

    def wake(self) -> None:
        """Look at the deadline, and at the drain."""
        ...

    def left(self, *, is_reset: bool) -> None:
        """Take note that the client is gone, or (not ``is_reset``) at least sends no more; told every tick."""
        ...


class Upkeep:
    """Attends to all connections of a server."""

    def __init__(self) -> None:
        self._connections: set[Attended] = set()
        self._some = trio.Event()
        self.now = trio.current_time()
        """Trio's clock as of the last sweep: `TICK` old at most, and free."""

    def __repr__(self) -> str:
        return f"<Upkeep: {len(self._connections)} connections>"

    def enter(self, connection: Attended) -> None:
        """Attend to a connection from now on."""
        self._connections.add(connection)
        if not self._some.is_set():
            self.now = trio.current_time()
            self._some.set()

    def leave(self, connection: Attended) -> None:
        """Attend to it no longer."""
        self._connections.discard(connection)

    def wake_idle(self) -> None:
        """Let every connection that waits for a request look around."""
        for connection in self._connections:
            if connection.is_idle:
                connection.wake()

    async def run(self, drain: Drain) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            await drain.begun.wait()
            self.wake_idle()

    async def _sweep(self) -> None:
        while True:
            if not self._connections:
                self._some = trio.Event()
                await self._some.wait()
            await trio.sleep(TICK)
            now = self.now = trio.current_time()
            answering = []
            for connection in self._connections:
                if connection.deadline <= now:
                    connection.wake()
                if connection.is_answering:
                    answering.append(connection)
            if answering:
                _look_after(answering)


def _look_after(connections: list[Attended]) -> None:
    by_fd = {connection.fileno(): connection for connection in connections}
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, select.POLLRDHUP)  # errors and hang-ups are always told
    for fd, events in poll.poll(0):
        by_fd[fd].left(is_reset=bool(events & _RESET))


@asynccontextmanager
async def open_upkeep(drain: Drain) -> AsyncGenerator[Upkeep]:
    """Attend to connections for the length of the block."""
    upkeep = Upkeep()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upkeep.run, drain)
        try:
            yield upkeep
        finally:
            nursery.cancel_scope.cancel()
