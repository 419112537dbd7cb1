"""Takes on no more requests than can be handled."""

from collections.abc import Iterable

import trio

from econeura_daemon.core.clock import Clock
from econeura_daemon.server.asgi import App, AsgiScope, Receive, Send
from econeura_daemon.server.context import RequestContext
from econeura_daemon.server.problems import Problem, send_problem

RETRY_AFTER = b"1"


class Slots:
    """A number of slots, and a bounded, fair queue for them."""

    def __init__(self, total: int, waiting: int) -> None:
        self._free = total
        self._total = total
        self._max_waiting = waiting
        self._lot = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<Slots: {self._free} of {self._total} free, {len(self._lot)} of {self._max_waiting} waiting>"

    @property
    def free(self) -> int:
        """Slots that nobody holds."""
        return self._free

    async def acquire(self) -> bool:
        """Take a slot, in the order of asking; False at once if as many wait already as may.

        No checkpoint while a slot is free.
        """
        if self._free:  # while anybody waits none is free: `release` hands it on
            self._free -= 1
            return True
        if len(self._lot) >= self._max_waiting:
            return False
        await self._lot.park()
        return True

    def release(self) -> None:
        """Give a slot back: to the one who has waited longest, if any."""
        if not self._lot.unpark(count=1):
            self._free += 1


class ShedLoad:
    """503 ``overloaded`` when ``max_concurrent_requests`` are being handled and as many wait.

    A long-lived response gives its slot back by `RequestContext.long_lived`. Requests for ``exempt`` paths
    never wait: a daemon that is busy is not dead.
    """

    def __init__(self, app: App, slots: Slots, clock: Clock, *, exempt: Iterable[str]) -> None:
        self._app = app
        self._slots = slots
        self._clock = clock
        self._exempt = frozenset(exempt)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        context = RequestContext.of(scope)
        if not await self._slots.acquire():
            problem = Problem.of(
                "overloaded",
                "More requests are waiting than the daemon takes on.",
                headers=[(b"retry-after", RETRY_AFTER)],
            )
            await send_problem(send, problem, context, self._clock)
            return
        is_held = True

        def release() -> None:
            nonlocal is_held
            if is_held:
                is_held = False
                self._slots.release()

        context.release = release
        try:
            await self._app(scope, receive, send)
        finally:
            release()
