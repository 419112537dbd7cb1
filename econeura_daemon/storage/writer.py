"""The one thread that writes: whatever queued up while a group was being committed is the next group.

Works are handed to the thread at the end of the event loop's pass in which they were put, all of them at once.
Handed over one by one they would start a commit with the first of them, and each would cost both threads a
change of the interpreter's lock.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs
import trio

from econeura_daemon.core.errors import OutcomeUnknownError, StoreBusyError, StoreError
from econeura_daemon.storage.connection import Connection
from econeura_daemon.storage.dialect import insert
from econeura_daemon.storage.engine import Engine
from econeura_daemon.storage.hot import Hot
from econeura_daemon.storage.joining import join
from econeura_daemon.storage.tables import meta
from econeura_daemon.storage.works import Submission

GROUP_WORKS = 500
"""About so many works share a commit, less than twice as many at most: at some 40 µs each, nobody waits much
longer than 20 ms for the others."""

REST_SECONDS = 1.0
"""How long the queue is empty before checkpoints and attempts to recover are made."""

_log = logging.getLogger(__name__)

_upsert = insert(meta)
_probe = Hot(
    _upsert.on_conflict_do_update(index_elements=["key"], set_={"value": _upsert.excluded.value}),
    "key",
    "value",
)


@attrs.frozen
class Report:
    """What the writer's thread tells the loop about one group."""

    group: Sequence[Submission]
    seconds: float
    """From the first work to the end of the commit."""
    trouble: str | None
    """Why the store refuses works, or None."""


class Writer:
    """A thread that owns an engine from `start` until `stop` has been worked off.

    Results go back to the loop in one ``run_sync_soon`` a group, and with them a `Report`.
    """

    def __init__(self, engine: Engine, report: Callable[[Report], None]) -> None:
        self._engine = engine
        self._report = report
        self._token = trio.lowlevel.current_trio_token()
        self._put: list[Submission] = []
        self._carrier: trio.lowlevel.Task | None = None
        self._queue: queue.SimpleQueue[list[Submission] | None] = queue.SimpleQueue()
        # A daemon thread: should a database hang for ever, the process can still end.
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._stopped = trio.Event()
        self._closing = False
        self._trouble: str | None = None

    def start(self) -> None:
        """Start the thread; the engine now belongs to it."""
        self._thread.start()
        # A system task: works are put by those, too, that a cancellation has left a moment to finish.
        trio.lowlevel.spawn_system_task(self._carry, name="store-writer")

    def put(self, submission: Submission) -> None:
        """Queue one work: from now on it happens."""
        self._put.append(submission)
        if self._carrier is not None:
            trio.lowlevel.reschedule(self._carrier)
            self._carrier = None

    async def stop(self) -> None:
        """Let the thread finish what is queued, close the engine, and join it."""
        self._closing = True
        self._hand_over()
        if self._carrier is not None:
            trio.lowlevel.reschedule(self._carrier)
        self._queue.put(None)
        await self._stopped.wait()
        self._thread.join()

    async def _carry(self) -> None:
        while not self._closing:
            if self._put:
                self._hand_over()
            self._carrier = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abandon)

    def _abandon(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._carrier = None  # the run ends, and the store was not closed
        return trio.lowlevel.Abort.SUCCEEDED

    def _hand_over(self) -> None:
        works, self._put = self._put, []
        for start in range(0, len(works), GROUP_WORKS):
            self._queue.put(works[start : start + GROUP_WORKS])

    def _run(self) -> None:
        patience: float | None = REST_SECONDS
        try:
            while True:
                try:
                    first = self._queue.get(timeout=patience)
                except queue.Empty:
                    patience = REST_SECONDS if self._rest() else None
                    continue
                if first is None:
                    return
                patience = REST_SECONDS
                group, more = self._group(first)
                self._commit(group)
                self._engine.tidy()
                if not more:
                    return
        finally:
            self._engine.close()
            self._tell(self._stopped.set)

    def _group(self, first: list[Submission]) -> tuple[list[Submission], bool]:
        """Return what is queued, ``first`` at its head, and whether more may come."""
        group = first
        while len(group) < GROUP_WORKS:
            try:
                works = self._queue.get_nowait()
            except queue.Empty:
                break
            if works is None:
                return group, False
            group += works
        return group, True

    def _commit(self, group: Sequence[Submission]) -> None:
        began = time.perf_counter()
        try:
            self._commit_joined(group)
        except Exception as bug:  # noqa: BLE001 - whatever it is, the thread goes on
            _log.exception("The writer failed; what became of %d works is unknown", len(group))
            for submission in group:
                submission.fail(OutcomeUnknownError(f"The writer failed in an unforeseen way ({bug!r})"))
        seconds = time.perf_counter() - began
        self._note(self._trouble_after(group))
        self._tell(self._report, Report(group, seconds, self._trouble))

    def _commit_joined(self, group: Sequence[Submission]) -> None:
        to_run, parties = join(group)
        self._engine.commit(to_run)
        for party in parties:
            if not party.settle():
                self._engine.commit(party.members)

    def _trouble_after(self, group: Sequence[Submission]) -> str | None:
        errors = [
            s.error
            for s in group
            if isinstance(s.error, StoreError) and not isinstance(s.error, StoreBusyError)
        ]
        if errors:
            return str(errors[0])
        if all(submission.error is not None for submission in group):
            return self._trouble  # nothing was committed, so nothing is known
        return self._engine.trouble()

    def _rest(self) -> bool:
        """Use a pause; True if there is reason to come back although nothing is queued."""
        try:
            more = not self._engine.rest()
            if self._trouble is None:
                return more
            trouble = self._engine.trouble()
        except StoreError as error:
            more, trouble = True, str(error)
        except Exception as bug:  # noqa: BLE001 - whatever it is, the thread goes on
            _log.exception("The writer failed in a pause")
            more, trouble = True, repr(bug)
        if trouble is None:
            self._commit(
                [Submission(_write_probe, takes_room=False)]
            )  # only a commit shows that the cause is gone
        elif trouble != self._trouble:
            self._note(trouble)
            self._tell(self._report, Report((), 0.0, trouble))
        return more or self._trouble is not None

    def _note(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            if trouble is None:
                _log.info("The store takes works again")
            else:
                _log.warning("The store refuses works: %s", trouble)
        self._trouble = trouble

    def _tell(self, function: Callable[..., object], *arguments: Any) -> None:
        with suppress(trio.RunFinishedError):  # the loop ended without waiting for us
            self._token.run_sync_soon(function, *arguments)


def _write_probe(connection: Connection) -> None:
    connection.run(_probe, [("storage.probe", "written to see whether the store takes works again")])
