"""What would otherwise be a task or a timer a connection: deadlines, and clients that leave.

A sweep over all connections every `TICK` costs less than one timer a request would. What it looks for are
plain attributes, which cost nothing to set.

Sockets are entered once in an epoll of its own, edge-triggered, which costs a system call a connection where
Trio's own waits cost one and more a request. It also tells at once of clients that leave while a handler is
at work, whether anybody reads their sockets or not.
"""

import select
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from econeura_daemon.server.connection import Drain

TICK = 0.1
"""Seconds. Deadlines are missed by this at most."""

READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
"""For sockets that are read by what is told here."""
LEAVING = select.EPOLLRDHUP | select.EPOLLET
"""For those that somebody else reads. Errors and hang-ups are always told."""
_AT_ONCE = 256
"""Events that are told before others get their turn."""


class Attended(Protocol):
    """A connection, as far as it is attended to here."""

    deadline: float
    """When `wake` is to be called, by Trio's clock; not before."""
    is_idle: bool
    """Whether it waits for a request."""

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        ...

    def wake(self) -> None:
        """Look at the deadline, and at the drain."""
        ...

    def told(self, events: int) -> None:
        """Take what epoll tells of the socket."""
        ...


class Upkeep:
    """Attends to all connections of a server."""

    def __init__(self) -> None:
        self._connections: set[Attended] = set()
        self._epoll = select.epoll()
        self._by_fd: dict[int, Attended] = {}
        self._some = trio.Event()
        self.now = trio.current_time()
        """Trio's clock as of the last sweep: `TICK` old at most, and free."""

    def __repr__(self) -> str:
        return f"<Upkeep: {len(self._connections)} connections>"

    def enter(self, connection: Attended, events: int) -> None:
        """Attend to a connection from now on, and tell it of ``events``."""
        self._connections.add(connection)
        self._by_fd[connection.fileno()] = connection
        self._epoll.register(connection.fileno(), events)
        if not self._some.is_set():
            self.now = trio.current_time()
            self._some.set()

    def leave(self, connection: Attended) -> None:
        """Attend to it no longer. Its socket must still be open."""
        self._connections.discard(connection)
        del self._by_fd[connection.fileno()]
        self._epoll.unregister(connection.fileno())

    def wake_idle(self) -> None:
        """Let every connection that waits for a request look around."""
        for connection in self._connections:
            if connection.is_idle:
                connection.wake()

    async def run(self, drain: Drain) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            nursery.start_soon(self._notice)
            await drain.begun.wait()
            self.wake_idle()

    async def _sweep(self) -> None:
        while True:
            if not self._connections:
                self._some = trio.Event()
                await self._some.wait()
            await trio.sleep(TICK)
            now = self.now = trio.current_time()
            for connection in self._connections:
                if connection.deadline <= now:
                    connection.wake()

    async def _notice(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, events in self._epoll.poll(0, _AT_ONCE):
                self._by_fd[fd].told(events)

    def close(self) -> None:
        """Free the descriptor."""
        self._epoll.close()


@asynccontextmanager
async def open_upkeep(drain: Drain) -> AsyncGenerator[Upkeep]:
    """Attend to connections for the length of the block."""
    upkeep = Upkeep()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.run, drain)
            try:
                yield upkeep
            finally:
                nursery.cancel_scope.cancel()
    finally:
        upkeep.close()
