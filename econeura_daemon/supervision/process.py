"""The process: settings, logging, signals, systemd and exit codes around what it runs."""

import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from random import Random
from typing import Protocol

import trio

from econeura_daemon._version import VERSION
from econeura_daemon.core.clock import Clock, SystemClock, format_instant
from econeura_daemon.core.errors import EconeuraError, SettingsError, StateDirectoryHeldError
from econeura_daemon.core.randomness import BufferedSystemRandom
from econeura_daemon.core.settings import Settings
from econeura_daemon.core.settings_tree import secrets_of
from econeura_daemon.finding.ready import Ready, start_ticks
from econeura_daemon.supervision.collecting import collecting_seldom, keep_what_stands
from econeura_daemon.supervision.drain import Drain
from econeura_daemon.supervision.notify import Notifier, open_notifier
from econeura_daemon.supervision.ready import remove_ready, write_ready
from econeura_daemon.supervision.reloading import Reloader
from econeura_daemon.supervision.signals import GRACE, HardStop, open_signals
from econeura_daemon.supervision.state_dir import StateDir
from econeura_daemon.telemetry import Metrics
from econeura_daemon.telemetry.logs import Logs, announce, open_logging

EXIT_DRAINED, EXIT_FAILED, EXIT_HELD, EXIT_CONFIGURATION = 0, 1, 75, 78
"""docs/http-api.md, "Starting it"; 70 is the hard stop's."""

log = logging.getLogger(__name__)


class Runs(Protocol):
    """What a process runs: ready for as long as its block lasts."""

    @property
    def urls(self) -> Sequence[str]:
        """Where it can be reached, with real ports."""

    @property
    def state(self) -> StateDir:
        """Its state directory."""

    @property
    def metrics(self) -> Metrics:
        """Its numbers."""

    @property
    def reloader(self) -> Reloader:
        """Takes other settings over."""


class Open(Protocol):
    """Opens what a process runs. Raises `SettingsError`, `StateDirectoryHeldError`, `EconeuraError`."""

    def __call__(
        self,
        settings: Settings,
        clock: Clock,
        rng: Random,
        *,
        drain: Drain,
        environ: Mapping[str, str],
        notifier: Notifier,
    ) -> AbstractAsyncContextManager[Runs]: ...


Load = Callable[[MutableMapping[str, str]], Settings]
"""Reads the settings, at the start and for each reload; raises `SettingsError`."""


def run(load: Load, open_it: Open, environ: MutableMapping[str, str] | None = None) -> int:
    """Run until told to stop; return the exit code.

    ``environ``: the process's environment, out of which what systemd says to this process alone is taken.
    """
    surroundings = os.environ if environ is None else environ
    try:
        settings = load(surroundings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIGURATION
    seconds = settings.daemon.drain_timeout_ms / 1000
    # Never disarmed: what hangs may be a thread that the interpreter waits for after all of this.
    hard_stop = HardStop(seconds + GRACE)
    hard_stop.start()
    with collecting_seldom(), open_logging(settings.log) as logs, open_notifier(surroundings) as notifier:
        logs.hide(*secrets_of(settings))
        process = partial(
            _process,
            settings=settings,
            load=load,
            open_it=open_it,
            environ=surroundings,
            logs=logs,
            notifier=notifier,
            hard_stop=hard_stop,
        )
        return _exit_code(process, notifier)


def _exit_code(process: Callable[[], Awaitable[None]], notifier: Notifier) -> int:
    """Run the process and turn how it ended into an exit code; its errors are logged."""
    code = EXIT_DRAINED
    try:
        trio.run(process)
    except* StateDirectoryHeldError as held:
        code = _failed(held, EXIT_HELD, notifier)
    except* SettingsError as wrong:
        code = _failed(wrong, EXIT_CONFIGURATION, notifier)
    except* EconeuraError as refused:
        code = code or _failed(refused, EXIT_FAILED, notifier)
    except* Exception:
        log.exception("the process failed")
        code = code or EXIT_FAILED
    if code == EXIT_DRAINED:
        log.info("drained")
    return code


def _failed(group: BaseExceptionGroup[EconeuraError], code: int, notifier: Notifier) -> int:
    for error in _leaves(group):
        log.critical("%s", error)
        notifier.status(str(error).partition("\n")[0])
    return code


def _leaves(group: BaseExceptionGroup[EconeuraError]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


async def _process(
    *,
    settings: Settings,
    load: Load,
    open_it: Open,
    environ: MutableMapping[str, str],
    logs: Logs,
    notifier: Notifier,
    hard_stop: HardStop,
) -> None:
    clock, rng = SystemClock(), BufferedSystemRandom()
    drain = Drain(settings.daemon.drain_timeout_ms / 1000)
    stop = trio.CancelScope()

    def begin_drain() -> None:
        notifier.stopping("draining")
        drain.begin()

    running: list[Runs] = []

    async def reload() -> None:
        if not running:
            log.warning("still starting; the settings are read anyway")
            return
        notifier.reloading()
        try:
            new = await trio.to_thread.run_sync(load, environ)
        except SettingsError as error:
            log.error("the settings stay as they were: %s", error)  # noqa: TRY400 - the user's mistake, not ours
        else:
            logs.apply(new.log)
            logs.hide(*secrets_of(new))
            running[0].reloader.apply(new)
        finally:
            notifier.ready("ready")

    # Signals enclose it all: the second SIGTERM comes while the ladder is being left.
    with stop:
        async with (
            open_signals(hard_stop=hard_stop, drain=begin_drain, cancel=stop.cancel, reload=reload),
            open_it(settings, clock, rng, drain=drain, environ=environ, notifier=notifier) as opened,
        ):
            running.append(opened)
            opened.metrics.counter(
                "log_lines_dropped", "Log lines lost because nobody took them", lambda: logs.dropped
            )
            ready = Ready(
                urls=tuple(opened.urls),
                pid=os.getpid(),
                version=VERSION,
                started_at=format_instant(clock.now()),
                run_id=opened.state.run_id,
                start_ticks=start_ticks(os.getpid()),
            )
            keep_what_stands()
            write_ready(opened.state.path, ready)
            try:
                announce("ready", **ready.fields())
                notifier.ready(f"ready at {', '.join(opened.urls)}")
                await drain.begun.wait()
            finally:
                hard_stop.arm()  # whatever ends it: a loop that failed too often must not hang either
                remove_ready(opened.state.path)
