"""What would otherwise be a task or a timer a connection: deadlines, and clients that leave.

Connections wait in buckets of one `TICK` each, by the instant at which they are next to be looked at. A deadline
that moves away, which is what happens to it at every request, costs nothing: its connection stays where it is and
is put further back once it is looked at. Only one that moves nearer is sorted in again. So a sweep costs by what
is due and not by how many connections are open, and with thousands of them holds up nobody's request.

Of requests that an application has been at work on for a tick, whose sockets nobody may be reading, the kernel
is asked in one call, every `TICK`, whether their clients are still there: requests that are answered sooner
pay next to nothing, streams and long polls a look at what has changed. The question is level-triggered: nothing that
was missed once is missed for good.
"""

import math
import select
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from typing import Protocol

import trio

from econeura_daemon.server.connection import Drain

TICK = 0.1
"""Seconds. Deadlines are missed, and clients that leave are noticed, by this late at most."""

_RESET = select.EPOLLERR | select.EPOLLHUP


class Attended(Protocol):
    """A connection, as far as it is attended to here."""

    deadline: float
    """When `wake` is to be called, by Trio's clock; not before. `Upkeep.look_sooner` once it comes before `look_at`."""
    look_at: float
    """When it is looked at next; kept here, infinite to begin with."""
    is_idle: bool
    """Whether it waits for a request."""

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        ...

    def wake(self) -> None:
        """Look at the deadline, and at the drain; told every tick until the deadline is another."""
        ...

    def left(self, *, is_reset: bool) -> None:
        """Take note that the client is gone, or (not ``is_reset``) at least sends no more; told every tick."""
        ...


class Upkeep:
    """Attends to all connections of a server."""

    def __init__(self) -> None:
        self._connections: set[Attended] = set()
        self._some = trio.Event()
        self._due: dict[int, set[Attended]] = {}
        self._tick = 0
        self._begun: set[Attended] = set()
        self._watched: dict[int, Attended] = {}
        self._epoll = select.epoll()

    def __repr__(self) -> str:
        return f"<Upkeep: {len(self._connections)} connections, {len(self._watched)} watched>"

    def enter(self, connection: Attended) -> None:
        """Attend to a connection from now on."""
        self._connections.add(connection)
        if not self._some.is_set():
            self._tick = int(trio.current_time() / TICK)
            self._some.set()

    def leave(self, connection: Attended) -> None:
        """Attend to it no longer."""
        self._connections.discard(connection)
        self._take_out(connection)

    def look_sooner(self, connection: Attended) -> None:
        """Look at a connection when its deadline has come, which is before it would have been looked at."""
        self._take_out(connection)
        self._put(connection, connection.deadline)

    def _put(self, connection: Attended, moment: float) -> None:
        connection.look_at = moment
        if moment < math.inf:
            self._due.setdefault(max(int(moment / TICK), self._tick), set()).add(connection)

    def _take_out(self, connection: Attended) -> None:
        if connection.look_at < math.inf:
            bucket = self._due.get(max(int(connection.look_at / TICK), self._tick))
            if bucket is not None:
                bucket.discard(connection)
            connection.look_at = math.inf

    def watch(self, connection: Attended) -> None:
        """Notice, from now on, if the client leaves: an application begins to work on its request."""
        self._begun.add(connection)

    def unwatch(self, connection: Attended) -> None:
        """Ask no longer whether the client is there."""
        if connection in self._begun:
            self._begun.discard(connection)
        elif self._watched.pop(connection.fileno(), None) is not None:
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
            await drain.begun.wait()
            self.wake_idle()

    def close(self) -> None:
        """Give back what the machine gave."""
        self._epoll.close()

    async def _sweep(self) -> None:
        while True:
            if not self._connections:
                self._some = trio.Event()
                await self._some.wait()
            await trio.sleep(TICK)
            self._look_at_deadlines(trio.current_time())
            self._look_after_clients()

    def _look_at_deadlines(self, now: float) -> None:
        first, self._tick = self._tick, int(now / TICK)
        for tick in range(first, self._tick + 1):
            for connection in self._due.pop(tick, ()):
                if connection.deadline <= now:
                    connection.wake()
                    self._put(connection, now + TICK)
                else:
                    self._put(connection, connection.deadline)

    def _look_after_clients(self) -> None:
        for connection in self._begun:
            self._watched[connection.fileno()] = connection
            self._epoll.register(
                connection.fileno(), select.EPOLLRDHUP
            )  # errors and hang-ups are always told
        self._begun.clear()
        if self._watched:
            for fd, events in self._epoll.poll(0):
                self._watched[fd].left(is_reset=bool(events & _RESET))


@asynccontextmanager
async def open_upkeep(drain: Drain) -> AsyncGenerator[Upkeep]:
    """Attend to connections for the length of the block."""
    upkeep = Upkeep()
    with closing(upkeep):  # at the very end: connections that are cancelled still take leave of it
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.run, drain)
            try:
                yield upkeep
            finally:
                nursery.cancel_scope.cancel()
