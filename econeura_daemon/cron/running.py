"""Runs under way: a bounded number of them, each in a task of its own, under a claim that is held by a heartbeat.

An attempt ends in one of three ways:

- an outcome: written with the job's counts and its event, and tried again until the store takes it;
- cancelled by a drain that ran out of time: given back, as if it had never been;
- nobody comes back (kill, power cut): its claim is found by the next start, or by another daemon once the lease
  lapsed, and the run shows as unknown.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from random import Random
from typing import Protocol

import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import StoreError
from econeura_daemon.core.jobs import ActionBody, ActionKind, Overlap
from econeura_daemon.cron.errors import TaskFailedError
from econeura_daemon.cron.model import MAX_OUTPUT, Claimed, Outcome, Run, RunStatus
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.store import runs as sql
from econeura_daemon.storage import Connection, Joint, Store
from econeura_daemon.storage.model import Claimant

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between tries to record while the store refuses."""
CLOSING_SECONDS = 5.0
"""How long a cancelled attempt may take to be recorded or given back."""


class Call(Protocol):
    """Calls a service. Whatever it does is expected: see `Outcome`."""

    async def __call__(self, action: ActionBody, idempotency_key: str, timeout: float, /) -> Outcome:
        """Make the request; ``timeout``, in seconds, is how long it is waited for."""
        ...


Tasks = Mapping[str, Callable[[Run], Awaitable[str]]]
"""The process's own tasks, by name: each does a run and returns in words what it did. Raises `TaskFailedError`,
`StoreError`.
"""


class Running:
    """Runs what was claimed. Made by `open_cron`."""

    def __init__(
        self,
        *,
        store: Store,
        reports: Reports,
        claimant: Claimant,
        call: Call,
        tasks: Tasks,
        clock: Clock,
        rng: Random,
        max_running: int,
        nursery: trio.Nursery,
    ) -> None:
        self._store = store
        self._reports = reports
        self._claimant = claimant
        self._call = call
        self._tasks = tasks
        self._clock = clock
        self._rng = rng
        self._max_running = max_running
        self._nursery = nursery
        self._under_way: dict[str, Claimed] = {}
        self._closed = False
        self.ended: Callable[[], object] = lambda: None
        """Called when an attempt ended that others may have waited for."""

    def __repr__(self) -> str:
        return f"<Running {len(self._under_way)} of {self._max_running}>"

    @property
    def under_way(self) -> Collection[Claimed]:
        """The attempts that are under way."""
        return self._under_way.values()

    @property
    def room(self) -> int:
        """How many attempts may be begun."""
        return max(0, self._max_running - len(self._under_way))

    def use(self, max_running: int) -> None:
        """Let so many attempts be under way at once from now on."""
        self._max_running = max_running
        self.ended()

    def begin(self, claimed: Collection[Claimed]) -> None:
        """Make attempts that are claimed. Call on the event loop, after the commit."""
        if self._closed:  # the store was so slow that the drain did not wait for this commit
            log.warning("claims are left to the next start", extra={"runs": len(claimed)})
            return
        for one in claimed:
            self._under_way[one.run.id] = one
            self._nursery.start_soon(self._run, one, name=f"cron {one.run.job_id}")

    def close(self) -> None:
        """Begin nothing more: the attempts were joined."""
        self._closed = True

    async def _run(self, one: Claimed) -> None:
        """Make one attempt and record its outcome; whatever goes wrong with it stays here."""
        outcome: Outcome | None = None
        try:
            try:
                outcome = await self._act(one)
            except trio.Cancelled:
                with trio.move_on_after(CLOSING_SECONDS, shield=True):
                    await self._give_back(one)
                raise
            await self._record(one, outcome)
        finally:
            was_full = self.room == 0
            self._under_way.pop(one.run.id, None)
            if was_full or outcome is None or _is_followed(one, outcome):
                self.ended()

    async def _act(self, one: Claimed) -> Outcome:
        timeout_ms = one.body.timeout_ms
        try:
            with trio.move_on_after(timeout_ms / 1000):
                return await self._do(one)
        except Exception as error:
            log.exception("a run failed", extra={"run_id": one.run.id})
            return Outcome(status=RunStatus.FAILED, error=f"internal error: {type(error).__name__}")
        return Outcome(status=RunStatus.TIMED_OUT, error=f"no end within {timeout_ms} ms")

    async def _do(self, one: Claimed) -> Outcome:
        action = one.body.action
        if action.kind is ActionKind.REQUEST:
            return await self._call(action, one.idempotency_key, one.body.timeout_ms / 1000)
        task = None if action.task is None else self._tasks.get(action.task)
        if task is None:
            return Outcome(
                status=RunStatus.FAILED, error=f"this version of the program has no task {action.task}"
            )
        try:
            return Outcome(status=RunStatus.SUCCEEDED, output=cut(await task(one.run)))
        except (TaskFailedError, StoreError) as error:
            return Outcome(status=RunStatus.FAILED, error=cut(str(error)))

    async def _record(self, one: Claimed, outcome: Outcome) -> None:
        ended = sql.Ended(one, outcome, to_ms(self._clock.now()))
        try:
            await self._until_written(ended)
        except trio.Cancelled:
            # A second time does no harm: the claim is gone then.
            with trio.move_on_after(CLOSING_SECONDS, shield=True):
                await self._until_written(ended)
            raise
        except Exception:
            log.exception("a run went unrecorded", extra={"run_id": one.run.id})

    async def _until_written(self, ended: sql.Ended) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._store.transact(Joint(self._write, ended))
            except StoreError as error:
                log.warning("the end of a run waits for the store: %s", error)
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return

    def _write(self, connection: Connection, ended: Sequence[sql.Ended]) -> list[None]:
        return sql.record(connection, ended, self._reports, self._claimant, self._rng)

    async def _give_back(self, one: Claimed) -> None:
        now = to_ms(self._clock.now())
        try:
            await self._store.transact(
                partial(sql.give_back, claimed=[one], now=now, claimant=self._claimant)
            )
        except StoreError as error:
            log.warning("could not give a run back: %s", error, extra={"run_id": one.run.id})


def _is_followed(one: Claimed, outcome: Outcome) -> bool:
    """Tell whether the end of an attempt may have made a run due: its own next one, or one behind it."""
    return outcome.status is not RunStatus.SUCCEEDED or one.body.overlap is not Overlap.ALLOW


def cut(text: str) -> str:
    """Return the first `MAX_OUTPUT` bytes of a text, without NUL, which PostgreSQL cannot hold."""
    return text.replace("\x00", "\ufffd").encode(errors="replace")[:MAX_OUTPUT].decode(errors="ignore")
