"""Is the daemon alive? Feeds systemd's watchdog only while the event loop, the writer and the database
answer.

A process whose loop is stuck, or whose writer hangs in the disk, looks well from outside: it accepts
connections. The watchdog that is fed no more has systemd restart it.

The loop's lag is how late a timer fires. Comparing three clocks at each tick tells a suspended machine and a
step of the wall clock from it: CLOCK_BOOTTIME runs through a suspend, Trio's clock does not, and the wall
clock can jump.
"""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import StoreError
from econeura_daemon.storage import Store
from econeura_daemon.supervision.loops import open_loop
from econeura_daemon.supervision.notify import Notifier
from econeura_daemon.telemetry import ComponentHealth, HealthBoard, Metrics

TICK = 0.5
"""Seconds between two measurements of the lag."""

LAGGING = 0.5
"""Seconds of lag from which health says so."""

JUMP = 1.0
"""Seconds by which two clocks must disagree over one tick to be worth a line."""

_RECENT_TICKS = 120
"""Ticks over which health tells the worst lag: a minute."""

_log = logging.getLogger(__name__)


def boot_time() -> float:
    """Return seconds since boot, suspends included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@attrs.frozen
class Clocks:
    """Three clocks read at one moment, in seconds."""

    running: float
    """Trio's: stands still while the machine is suspended."""
    boot: float
    """Since boot, suspends included."""
    wall: float
    """Since the epoch; can be set."""

    def suspended(self, later: "Clocks") -> float:
        """Return for how many seconds the machine was suspended from this reading to the ``later`` one."""
        return _worth_saying((later.boot - self.boot) - (later.running - self.running))

    def stepped(self, later: "Clocks") -> float:
        """Return by how many seconds the wall clock was set, forwards or (negative) backwards."""
        return _worth_saying((later.wall - self.wall) - (later.boot - self.boot))


def _worth_saying(seconds: float) -> float:
    return seconds if abs(seconds) >= JUMP else 0.0


class Watchdog:
    """Measures the event loop and feeds systemd's watchdog."""

    def __init__(
        self,
        notifier: Notifier,
        ping: Callable[[], Awaitable[object]],
        clock: Clock,
        *,
        observe_lag: Callable[[float], object] = lambda _seconds: None,
        boot_time: Callable[[], float] = boot_time,
    ) -> None:
        """``ping`` returns once writer and database answered; ``observe_lag`` takes each lag in seconds."""
        self._notifier = notifier
        self._ping = ping
        self._clock = clock
        self._observe_lag = observe_lag
        self._boot_time = boot_time
        self._lags: list[float] = []
        self._answered = float("-inf")
        self._trouble = ""
        self._hungry: str | None = None

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled. Started once the database has answered, where systemd watches."""
        interval = self._notifier.watchdog_interval
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._measure)
            if interval is not None:
                await nursery.start(self._ask, interval)
                nursery.start_soon(self._feed, interval)
            task_status.started()

    @property
    def worst_lag(self) -> float:
        """The worst lag of the last minute, in seconds."""
        return max(self._lags, default=0.0)

    def health(self) -> ComponentHealth:
        """Tell how the event loop keeps up."""
        lag = self.worst_lag
        detail = f"worst lag of the last minute {lag * 1000:.0f} ms"
        if self._hungry is not None:
            return ComponentHealth("unhealthy", f"{detail}; the watchdog is not fed: {self._hungry}")
        return ComponentHealth("degraded" if lag >= LAGGING else "healthy", detail)

    async def _measure(self) -> None:
        before = self._read()
        due = trio.current_time() + TICK
        while True:
            await trio.sleep_until(due)
            lag = max(0.0, trio.current_time() - due)
            self._lags.append(lag)
            del self._lags[:-_RECENT_TICKS]
            self._observe_lag(lag)
            before = self._notice_jumps(before)
            due = trio.current_time() + TICK

    def _read(self) -> Clocks:
        return Clocks(trio.current_time(), self._boot_time(), to_ms(self._clock.now()) / 1000)

    def _notice_jumps(self, before: Clocks) -> Clocks:
        now = self._read()
        if seconds := before.suspended(now):
            _log.warning("the machine was suspended for %.1f s", seconds)
        if seconds := before.stepped(now):
            _log.warning("the wall clock was set by %+.1f s", seconds)
        return now

    async def _ask(self, interval: float, *, task_status: trio.TaskStatus[Any]) -> None:
        """Ask the store four times an interval; one that hangs is simply not asked again."""
        started = False
        while True:
            try:
                await self._ping()
            except StoreError as error:
                self._trouble = f": {error}"
            else:
                self._answered = trio.current_time()
                self._trouble = ""
            if not started:
                started = True
                task_status.started()
            await trio.sleep(interval / 4)

    async def _feed(self, interval: float) -> None:
        due = trio.current_time()
        while True:
            why = self._why_not(interval, late=trio.current_time() - due)
            if why is None:
                self._notifier.watchdog()
            if why != self._hungry:
                self._hungry = why
                if why is None:
                    _log.info("the watchdog is fed again")
                else:
                    _log.error("the watchdog is not fed: %s", why)
            due = trio.current_time() + interval / 2
            await trio.sleep_until(due)

    def _why_not(self, interval: float, late: float) -> str | None:
        """Return why systemd should not believe that all is well."""
        silent = trio.current_time() - self._answered
        if silent > interval:
            return f"the store does not answer{self._trouble}"
        if max([late, *self._lags[-1:]]) > interval / 4:
            return "the event loop lags"
        return None


@asynccontextmanager
async def open_watchdog(
    notifier: Notifier, clock: Clock, store: Store, metrics: Metrics, health: HealthBoard
) -> AsyncGenerator[None]:
    """Watch the event loop and the store for the length of the block."""
    watchdog = Watchdog(notifier, store.ping, clock, observe_lag=metrics.event_loop_lag_seconds.observe)
    health.add("event_loop", watchdog.health)
    async with open_loop(watchdog.run):
        yield
