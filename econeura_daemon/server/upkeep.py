"""What would otherwise be a task or a timer a connection: deadlines, and clients that leave.

A sweep over all connections every `TICK` costs less than one timer a request would. What it looks for are
plain attributes, which cost nothing to set.

Clients that leave while a handler is at work are seen by an epoll of its own, which connections whose
request lasts longer than a tick are entered in. Nobody reads their sockets meanwhile: what a client sends
ahead waits in the kernel, and there is an end to it.
"""

import select
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from econeura_daemon.server.connection import Drain

TICK = 0.1
"""Seconds. Deadlines are missed by this at most."""

_LEFT = select.EPOLLRDHUP | select.EPOLLONESHOT
_RESET = select.EPOLLONESHOT  # errors and hang-ups are always told


class Lasting(Protocol):
    """A request that is being handled."""

    is_old: bool
    """Whether a sweep has seen it already."""

    def leave(self, *, is_reset: bool) -> None:
        """Note that the client is gone, or (not ``is_reset``) at least sends no more."""
        ...


class Attended(Protocol):
    """A connection, as far as it is attended to here."""

    deadline: float
    """When `wake` is to be called, by Trio's clock; not before."""
    is_idle: bool
    """Whether it waits for a request."""

    @property
    def exchange(self) -> Lasting | None:
        """The request that is being handled, if its client may leave it."""
        ...

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        ...

    def wake(self) -> None:
        """Look at the deadline, and at the drain."""
        ...


class Upkeep:
    """Attends to all connections of a server."""

    def __init__(self) -> None:
        self._connections: set[Attended] = set()
        self._epoll = select.epoll()
        self._watched: dict[int, Attended] = {}
        self._some = trio.Event()

    def __repr__(self) -> str:
        return f"<Upkeep: {len(self._connections)} connections, {len(self._watched)} watched>"

    def enter(self, connection: Attended) -> None:
        """Attend to a connection from now on."""
        self._connections.add(connection)
        self._some.set()

    def leave(self, connection: Attended) -> None:
        """Attend to it no longer. Its socket must still be open."""
        self._connections.discard(connection)
        self.end_exchange(connection)

    def watch(self, connection: Attended) -> None:
        """Notice at once when the client leaves the request that is being handled."""
        fd = connection.fileno()
        if fd not in self._watched:
            self._watched[fd] = connection
            self._epoll.register(fd, _LEFT)

    def end_exchange(self, connection: Attended) -> None:
        """Forget the request that was being handled."""
        fd = connection.fileno()
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

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
            now = trio.current_time()
            for connection in self._connections:
                if connection.deadline <= now:
                    connection.wake()
                exchange = connection.exchange
                if exchange is None:
                    continue
                if not exchange.is_old:
                    exchange.is_old = True
                else:
                    self.watch(connection)

    async def _notice(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, events in self._epoll.poll(0):
                exchange = self._watched[fd].exchange
                if exchange is None:
                    continue
                is_reset = bool(events & (select.EPOLLERR | select.EPOLLHUP))
                exchange.leave(is_reset=is_reset)
                if not is_reset:
                    self._epoll.modify(fd, _RESET)

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
