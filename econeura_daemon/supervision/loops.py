"""The features' loops: each under supervision, and all of them known by name for health."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import trio

from econeura_daemon.supervision.supervise import Supervised
from econeura_daemon.telemetry import ComponentHealth, Metrics
from econeura_daemon.telemetry.health import worst


class Loops:
    """Supervises the features' loops, and remembers them for health."""

    def __init__(self, metrics: Metrics, rng: Random) -> None:
        self._metrics = metrics
        self._rng = rng
        self._by_name: dict[str, Supervised] = {}

    def supervised(self, name: str, loop: Callable[..., Any]) -> Callable[..., Any]:
        """Return the loop under supervision."""
        one = Supervised(name, loop, rng=self._rng, on_restart=self._metrics.loop_restarts.inc)
        self._by_name[name] = one
        return one.run

    def health_of(self, part: str) -> ComponentHealth:
        """Tell how a part's loops are: the worst of those named ``part`` or ``part.…``."""
        found = {
            name: loop.health()
            for name, loop in self._by_name.items()
            if name == part or name.startswith(f"{part}.")
        }
        status = worst(found.values())
        name = next(name for name, one in found.items() if one.status == status)
        detail = found[name].detail if name == part else f"{name}: {found[name].detail}"
        return ComponentHealth(status, detail)


@asynccontextmanager
async def open_loop(run: Callable[..., Awaitable[None]]) -> AsyncGenerator[None]:
    """Run a loop that has nothing to finish for the length of the block."""
    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
