"""Processes that read mails for the worker, so that its event loop never waits for one to be read."""

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import attrs
import trio

from econeura_daemon.core.errors import EconeuraError, InvalidInputError
from econeura_daemon.primitives.errors import QueueFullError
from econeura_daemon.resilience.retry import RetryPolicy
from econeura_daemon.worker.processing.child_process import Child, ChildEndedError
from econeura_daemon.worker.processing.model import Processed, UnprocessableError
from econeura_daemon.worker.processing.processing import SIZE_LIMIT
from econeura_daemon.worker.processing.rules import DEFAULT_RULES, Rules

TIME_LIMIT = 30.0
"""Seconds for one mail; the slowest that was made takes 2."""
MEMORY_LIMIT = 2 * 1024**3
"""Bytes of address space of a process."""
QUEUE_LIMIT = 1000
WATCH_INTERVAL = 2.0
"""Seconds between two looks at the rules file."""
_MAX_HANDED_BACK = 2
_RESTARTS = RetryPolicy(base=0.2, longest=10.0)

_log = logging.getLogger(__name__)


class ProcessorsUnavailableError(EconeuraError):
    """No process can be started, or the pool was closed: this says nothing about the mail."""


@attrs.frozen(kw_only=True)
class ProcessorStatistics:
    """Counts since the start, but for the first four, which are present numbers.

    ``timeouts`` and ``deaths`` are processes that were replaced: a mail took too long, they ended by themselves.
    ``pids`` are those of the processes that are ready.
    ``rules_error`` is what is wrong with the rules file that was not taken over.
    """

    processes: int
    ready: int
    busy: int
    waiting: int
    processed: int
    unprocessable: int
    timeouts: int
    deaths: int
    rules_loaded: int
    rules_error: str | None
    pids: tuple[int, ...]


@attrs.define(eq=False)
class _Job:
    raw: bytes
    done: trio.Event = attrs.Factory(trio.Event)
    outcome: Processed | EconeuraError | None = None
    handed_back: int = 0

    def settle(self, outcome: Processed | EconeuraError) -> None:
        self.outcome = outcome
        self.raw = b""
        self.done.set()


class Processors:
    """What `open_processors` gives."""

    def __init__(
        self,
        rules: Rules,
        path: Path,
        *,
        processes: int,
        time_limit: float,
        memory_limit: int,
        queue_limit: int,
    ) -> None:
        self.processes = processes
        self._rules = rules
        self._rules_path = path
        self._rules_error: str | None = None
        self._rules_loaded = 1
        self._time_limit = time_limit
        self._memory_limit = memory_limit
        self._queue_limit = queue_limit
        self._queue: OrderedDict[_Job, None] = OrderedDict()
        self._idle = trio.lowlevel.ParkingLot()
        self.tried = trio.Event()
        """Set when the first process is ready, or could not be started."""
        self._unavailable: str | None = None
        self._random = Random()  # noqa: S311 - it spreads restarts
        self._children: list[Child] = []
        self._busy = 0
        self._processed = self._unprocessable = self._timeouts = self._deaths = 0

    def __repr__(self) -> str:
        return f"<Processors, {self._busy}/{self.processes} busy with {len(self._queue)} waiting>"

    @property
    def unavailable(self) -> str | None:
        """Why there is no process, if there is none."""
        return None if self._children else self._unavailable

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self._rules

    async def process(self, raw: bytes) -> Processed:
        """Process a mail in one of the processes; first come, first served.

        Raises `UnprocessableError`, also where the mail took too long or ended its process; `QueueFullError` if too
        many wait; `ProcessorsUnavailableError`. A caller who is cancelled leaves the queue; a mail that is being
        read by then is read to its end, for nobody.
        """
        if self.unavailable is not None:
            raise ProcessorsUnavailableError(self.unavailable)
        if len(raw) > SIZE_LIMIT:
            raise UnprocessableError(f"it has {len(raw)} bytes, more than {SIZE_LIMIT}")
        if len(self._queue) >= self._queue_limit:
            raise QueueFullError("processors", f"{len(self._queue)} mails wait already")
        job = _Job(raw)
        self._queue[job] = None
        self._idle.unpark()
        try:
            await job.done.wait()
        finally:
            self._queue.pop(job, None)
        assert job.outcome is not None
        if isinstance(job.outcome, EconeuraError):
            raise job.outcome
        return job.outcome

    async def reload(self) -> None:
        """Take the rules file over. Raises `InvalidInputError` with every mistake; then the old rules stay."""
        try:
            rules = await trio.to_thread.run_sync(Rules.load, self._rules_path)
        except InvalidInputError as error:
            self._rules_error = str(error)
            raise
        self._rules, self._rules_error = rules, None
        self._rules_loaded += 1

    def statistics(self) -> ProcessorStatistics:
        """Return how it stands."""
        return ProcessorStatistics(
            processes=self.processes,
            ready=len(self._children),
            busy=self._busy,
            waiting=len(self._queue),
            processed=self._processed,
            unprocessable=self._unprocessable,
            timeouts=self._timeouts,
            deaths=self._deaths,
            rules_loaded=self._rules_loaded,
            rules_error=self._rules_error,
            pids=tuple(child.pid for child in self._children),
        )

    async def run(self) -> None:
        """Keep the processes and the rules going, for ever."""
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self.processes):
                    nursery.start_soon(self._keep_one)
                await self._watch_rules()
        finally:
            self._unavailable = "the processes were ended"
            self._settle_all()

    async def _keep_one(self) -> None:
        failures = 0
        while True:
            try:
                child = await Child.start(
                    self._rules, time_limit=self._time_limit, memory_limit=self._memory_limit
                )
            except (ChildEndedError, OSError) as error:
                self._could_not_start(error)
            else:
                if await self._serve_with(child):
                    failures = 0
            await trio.sleep(_RESTARTS.wait(failures, self._random))
            failures += 1

    def _could_not_start(self, error: Exception) -> None:
        _log.error("no process for reading mails: %s", error)
        if not self._children:
            self._unavailable = str(error)
            self._settle_all()
        self.tried.set()

    def _settle_all(self) -> None:
        while self._queue:
            job, _ = self._queue.popitem(last=False)
            job.settle(ProcessorsUnavailableError(self._unavailable or "no process is ready"))

    async def _serve_with(self, child: Child) -> bool:
        """Let the process read mails until it must be replaced; return whether it read any."""
        has_served = False
        self._children.append(child)
        self._unavailable = None
        self.tried.set()
        try:
            while await self._serve_one(child):
                has_served = True
        finally:
            self._children.remove(child)
            await child.end()
        return has_served

    async def _serve_one(self, child: Child) -> bool:
        """Let the process read one mail; return whether it can read another."""
        while not self._queue:
            await self._idle.park()
        job, _ = self._queue.popitem(last=False)
        self._busy += 1
        try:
            return await self._attempt(child, job)
        finally:
            self._busy -= 1
            if not job.done.is_set() and job not in self._queue:
                job.settle(ProcessorsUnavailableError("the processes were ended"))

    async def _attempt(self, child: Child, job: _Job) -> bool:
        outcome: Processed | UnprocessableError | None = None
        try:
            with trio.move_on_after(self._time_limit):
                if child.rules is not self._rules:
                    await child.take(self._rules)
                outcome = await child.process(job.raw)
        except ChildEndedError as error:
            self._deaths += 1
            _log.warning("%s", error)
            if not error.had_it_all and job.handed_back < _MAX_HANDED_BACK:  # the mail is hardly to blame
                job.handed_back += 1
                self._queue[job] = None
                self._queue.move_to_end(job, last=False)
                self._idle.unpark()
                return False
            job.settle(UnprocessableError(f"the process that read it {error.reason}"))
        else:
            if outcome is None:
                self._timeouts += 1
                _log.warning("a mail of %d bytes was not read within %g s", len(job.raw), self._time_limit)
            job.settle(outcome or UnprocessableError(f"it was not read within {self._time_limit:g} s"))
        if isinstance(job.outcome, Processed):
            self._processed += 1
        else:
            self._unprocessable += 1
        return outcome is not None

    async def _watch_rules(self) -> None:
        seen = await trio.to_thread.run_sync(_stamp, self._rules_path)
        while True:
            await trio.sleep(WATCH_INTERVAL)
            stamp = await trio.to_thread.run_sync(_stamp, self._rules_path)
            if stamp == seen:
                continue
            seen = stamp
            try:
                await self.reload()
            except InvalidInputError as error:
                _log.error("the old rules stay in force. %s", error)
            else:
                _log.info("the rules of %s were taken over", self._rules_path)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


@asynccontextmanager
async def open_processors(
    rules_path: Path | str | None = None,
    *,
    processes: int = 1,
    time_limit: float = TIME_LIMIT,
    memory_limit: int = MEMORY_LIMIT,
    queue_limit: int = QUEUE_LIMIT,
) -> AsyncGenerator[Processors]:
    """Run ``processes`` processes for the length of the block; the rules are the package's own if no file is named.

    ``time_limit`` is seconds for a mail, ``memory_limit`` bytes for a process, ``queue_limit`` mails that may wait.
    Raises `InvalidInputError` for the rules, `ProcessorsUnavailableError` if no process can be started. After the
    block all of them are gone, and whoever still waits has a `ProcessorsUnavailableError`.
    """
    path = Path(rules_path) if rules_path is not None else DEFAULT_RULES
    rules = await trio.to_thread.run_sync(partial(Rules.load, path))
    processors = Processors(
        rules,
        path,
        processes=processes,
        time_limit=time_limit,
        memory_limit=memory_limit,
        queue_limit=queue_limit,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(processors.run)
        await processors.tried.wait()
        reason = processors.unavailable
        try:
            if reason is None:
                yield processors
        finally:
            nursery.cancel_scope.cancel()
    if reason is not None:
        raise ProcessorsUnavailableError(f"No process for reading mails can be started: {reason}")
