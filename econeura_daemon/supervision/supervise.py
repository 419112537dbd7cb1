"""Keeping a loop alive: a bug restarts it, too many bugs end the process, and systemd starts that again.

The limit is that of Erlang's supervisors, "intensity" in "period"
(https://www.erlang.org/doc/system/sup_princ): at most 5 restarts in 60 s. The pauses between them, 0.25 s
tripled each time up to 20 s, fill half of that minute, so that a database which restarts meanwhile is there
again before the loop is given up.
"""

import logging
from collections.abc import Callable
from random import Random
from typing import Any, Literal, Protocol

import attrs
import trio

from econeura_daemon.core.errors import EconeuraError
from econeura_daemon.telemetry.health import ComponentHealth

MAX_RESTARTS = 5
WITHIN = 60.0

FIRST_PAUSE = 0.25
PAUSE_FACTOR = 3.0
LONGEST_PAUSE = 20.0

State = Literal["new", "starting", "running", "restarting", "ended", "failed"]

_log = logging.getLogger(__name__)


class LoopFailedError(EconeuraError):
    """A loop failed more often than it may be restarted; the process exits with 1."""


class Run(Protocol):
    """A loop. It calls ``task_status.started()`` once it works; it returns only when it was told to drain."""

    async def __call__(self, *, task_status: trio.TaskStatus[Any]) -> None:
        """Run."""
        ...


@attrs.frozen
class RestartBudget:
    """How often a loop may still be restarted: a value; each crash makes the next one."""

    max_restarts: int = attrs.field(default=MAX_RESTARTS, validator=attrs.validators.ge(0))
    within: float = attrs.field(default=WITHIN, validator=attrs.validators.gt(0))
    """Seconds after which a crash is forgotten."""
    crashes: tuple[float, ...] = ()
    """When it crashed, at most ``max_restarts`` of them, the oldest first."""

    def crash(self, now: float, rng: Random) -> tuple[float | None, "RestartBudget"]:
        """Return how many seconds to wait before the restart (None: give up) and what is left then."""
        recent = tuple(crash for crash in self.crashes if crash > now - self.within)
        if len(recent) >= self.max_restarts:
            return None, attrs.evolve(self, crashes=recent)
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * PAUSE_FACTOR ** len(recent))
        # Jitter of half the pause: loops that lost the same database do not come back in step.
        return pause * rng.uniform(0.5, 1.0), attrs.evolve(self, crashes=(*recent, now))


class Supervised:
    """One loop under supervision, and what to say of it."""

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        rng: Random,
        max_restarts: int = MAX_RESTARTS,
        within: float = WITHIN,
        on_restart: Callable[[str], None] | None = None,
    ) -> None:
        """``on_restart``, called with the name, counts restarts for the metrics."""
        self.name = name
        self.state: State = "new"
        self.restarts = 0
        self.since: float | None = None
        """When it entered its state, by Trio's clock."""
        self.last_error: str | None = None
        self._run = run
        self._rng = rng
        self._budget = RestartBudget(max_restarts, within)
        self._on_restart = on_restart

    def __repr__(self) -> str:
        return f"<Supervised {self.name}: {self.state}, {self.restarts} restarts>"

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the loop until it returns or is cancelled; restart it after each bug.

        ``task_status`` is told of the first start only. Raises `LoopFailedError`, caused by the last bug,
        when the loop was restarted ``max_restarts`` times within ``within`` seconds and failed again.
        Whatever is no bug, a cancellation or an interrupt, passes; of an exception group the part that is no
        bug.
        """
        first = _FirstStart(self, task_status)
        self._enter("starting")
        while True:
            bug: BaseException | None = None
            pause: float | None = None
            try:
                await self._run(task_status=first)
            except* Exception as group:  # noqa: BLE001 - every bug is what this is for
                bug = _sole(group)
                pause = self._crashed(bug)
            # What is no bug has passed by here. Raised within except*, an error would be wrapped in a group.
            if bug is None:
                self._enter("ended")
                return
            if pause is None:
                raise LoopFailedError(
                    f"the loop {self.name} failed {self._budget.max_restarts + 1} times "
                    f"within {self._budget.within:g} s: {self.last_error}"
                ) from bug
            await trio.sleep(pause)

    def health(self) -> ComponentHealth:
        """Tell the loop's state. Call it within Trio."""
        ago = 0.0 if self.since is None else trio.current_time() - self.since
        after = f" after: {self.last_error}" if self.last_error else ""
        match self.state:
            case "running":
                again = f", restarted {self.restarts} times, last{after}" if self.restarts else ""
                return ComponentHealth("healthy", f"running{again}")
            case "restarting":
                return ComponentHealth("degraded", f"restarting for {ago:.0f} s{after}")
            case "new" | "starting":
                return ComponentHealth("degraded", f"starting for {ago:.0f} s")
            case "ended":
                return ComponentHealth("unhealthy", "ended")
            case "failed":
                return ComponentHealth("unhealthy", f"given up{after}")

    def _enter(self, state: State) -> None:
        self.state = state
        self.since = trio.current_time()

    def _crashed(self, error: BaseException) -> float | None:
        """Return the pause before the restart, or None: there is none."""
        self.last_error = f"{type(error).__name__}: {error}"
        pause, self._budget = self._budget.crash(trio.current_time(), self._rng)
        if pause is None:
            self._enter("failed")
            _log.critical(
                "loop %s failed for good", self.name, exc_info=error, extra={"restarts": self.restarts}
            )
            return None
        # Restarting lasts until the loop works again: what fails over and over is seen as one outage.
        if self.state != "restarting":
            self._enter("restarting")
        self.restarts += 1
        if self._on_restart is not None:
            self._on_restart(self.name)
        _log.error(
            "loop %s failed, restarting in %.2f s",
            self.name,
            pause,
            exc_info=error,
            extra={"restarts": self.restarts},
        )
        return pause


class _FirstStart:
    """The task status of every run of a loop: all of them are noted, the first is passed on."""

    def __init__(self, supervised: Supervised, task_status: trio.TaskStatus[Any]) -> None:
        self._supervised = supervised
        self._task_status: trio.TaskStatus[Any] | None = task_status

    def started(self, value: object = None) -> None:
        self._supervised._enter("running")  # noqa: SLF001 - one class in two halves
        if self._task_status is not None:
            first, self._task_status = self._task_status, None
            first.started(value)


def _sole(error: BaseException) -> BaseException:
    """Return what a group of one holds, at any depth: ``except*`` wraps also what came alone."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def supervise(
    name: str,
    run: Run,
    *,
    rng: Random,
    max_restarts: int = MAX_RESTARTS,
    within: float = WITHIN,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a loop that nobody asks about: see `Supervised.run`."""
    supervised = Supervised(name, run, rng=rng, max_restarts=max_restarts, within=within)
    await supervised.run(task_status=task_status)
