"""Bulk jobs under way: claimed, worked off chunk by chunk, recorded; given back by a drain, found again after a kill.

A chunk that could not be asked for, because no worker was there or had time, is asked for again, at growing
intervals: the job waits for workers for as long as its patience lasts, which begins anew with every answer. One that
failed in another way is asked for a few times, and then failed for itself.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import attrs
import trio

from econeura_daemon.client import MeshError, UpstreamUnreachableError
from econeura_daemon.core.errors import StoreError
from econeura_daemon.storage import Connection, Store
from econeura_daemon.storage.holding import (
    Suspects,
    hold_leases,
    rescan_pause,
    while_the_store_is_away,
)
from econeura_daemon.storage.model import Claimant
from econeura_daemon.workers.bulks import BULK_PROCESSED, UNAVAILABLE, Bulks, Chunk
from econeura_daemon.workers.calling import Asked, WorkersBusyError, WorkersFailedError
from econeura_daemon.workers.chunks import Item, failed
from econeura_daemon.workers.model import BulkJob, Email
from econeura_daemon.workers.recording import Recorder
from econeura_daemon.workers.store import bulk_jobs as sql
from econeura_daemon.workers.waiting import NoTurnError

TOPIC = "bulk_jobs"
"""Announced when a job was begun or is to be canceled."""
PROGRESS = "email.bulk_progress"

JOBS_AT_ONCE = 32
JOBS_OF_ONE = 2
"""Of one organization: so none keeps others waiting with the jobs that it begins, and each goes on while one of its
chunks takes long."""
CHUNKS_AT_ONCE = 4
"""Of one job."""
ATTEMPTS = 3
"""Of a chunk that was asked for and failed; each is several of the mesh's own."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds between two attempts of a chunk; doubled from one to the next, half of them chance."""
PROGRESS_EVERY = 0.25
"""Seconds between two words of a job's progress."""
LOOK_AGAIN = 60.0
STORE_PAUSE = 1.0
CLOSING_SECONDS = 5.0

_log = logging.getLogger(__name__)


def finish(connection: Connection, job: BulkJob, recorder: Recorder) -> BulkJob:
    """Bring a job to its end, with its event, and return it so."""
    ended = sql.finish(connection, job, recorder.now)
    data = {
        "jobId": ended.id,
        "organizationId": ended.organization_id,
        "priority": ended.priority.value,
        "status": ended.status.value,
        "total": ended.total,
        "successful": ended.successful,
        "failed": ended.failed,
    }
    recorder.append(connection, BULK_PROCESSED, data)
    return ended


@attrs.define(eq=False)
class _Running:
    """A job that is worked on here."""

    job: BulkJob
    answered_at: float = attrs.field(factory=trio.current_time)
    """When a worker last answered for it, or it was begun here."""
    told_at: float = 0.0
    over: trio.Event = attrs.field(factory=trio.Event)
    """Canceled, or its claim is lost, or the daemon stops: nothing more of it begins."""


class Runner:
    """Works jobs off. Made by `open_workers`."""

    def __init__(
        self,
        *,
        store: Store,
        bulks: Bulks,
        recorder: Recorder,
        claimant: Claimant,
        rng: Random,
        patience: Callable[[], float],
        progress: Callable[[BulkJob], object],
        nursery: trio.Nursery,
    ) -> None:
        """``patience``: for how many seconds a job waits for workers; ``progress`` is told of jobs as they go on."""
        self._store = store
        self._bulks = bulks
        self._recorder = recorder
        self._claimant = claimant
        self._rng = rng
        self._patience = patience
        self._progress = progress
        self._nursery = nursery
        self._under_way: dict[str, _Running] = {}
        self._stopping = trio.Event()
        self._wake = trio.Event()
        self._suspects = Suspects()

    def __repr__(self) -> str:
        return f"<Runner: {len(self._under_way)} bulk jobs under way>"

    def __len__(self) -> int:
        return len(self._under_way)

    def stop(self) -> None:
        """Begin nothing more; chunks under way go on, and are recorded."""
        self._stopping.set()
        self._wake.set()
        for running in self._under_way.values():
            running.over.set()

    async def claim_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Claim jobs that wait, for ever."""
        task_status.started()
        while not self._stopping.is_set():
            self._wake = trio.Event()
            room = JOBS_AT_ONCE - len(self._under_way)
            try:
                if room > 0:
                    await self._store.transact(partial(self._claim, most=room))
            except StoreError as error:
                _log.warning("the store refused a look for bulk jobs: %s", error)
                await trio.sleep(STORE_PAUSE)
                continue
            with trio.move_on_after(LOOK_AGAIN):
                await self._wake.wait()
        await trio.sleep_forever()

    def _claim(self, connection: Connection, most: int) -> None:
        claimed = sql.claim(connection, self._claimant, self._recorder.now, most=most, of_one=JOBS_OF_ONE)
        if claimed:
            connection.after_commit(partial(self._begin, claimed))

    def _begin(self, jobs: Sequence[BulkJob]) -> None:
        for job in jobs:
            running = self._under_way[job.id] = _Running(job)
            if job.is_canceled or self._stopping.is_set():
                running.over.set()
            self._nursery.start_soon(self._run, running, name=f"bulk {job.id}")

    async def changes_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hear, for ever, of jobs that were begun or are to be canceled, here or by another daemon."""
        with self._store.watch(TOPIC) as watch:
            task_status.started()
            while True:
                await watch.wait()
                with while_the_store_is_away("look which bulk jobs are canceled"):
                    await self._look_for_canceled()
                self._wake.set()

    async def upkeep_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Find, for ever, jobs whose daemon died, and claims that nobody works on."""
        task_status.started()
        while True:
            await trio.sleep(rescan_pause(self._claimant))
            with while_the_store_is_away("look for bulk jobs that others left"):
                await self.recover()
                claimed = await self._store.read(partial(sql.claimed_by, claimant=self._claimant))
                if abandoned := self._suspects.abandoned(claimed, self._under_way):
                    _log.error("freed bulk jobs that nobody worked on", extra={"jobs": abandoned[:10]})
                    await self._store.transact(
                        partial(sql.give_back, job_ids=abandoned, claimant=self._claimant)
                    )
                    self._wake.set()

    async def lease_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Prolong the leases of what is under way."""
        task_status.started()
        await hold_leases(self._store, self._claimant, lambda: list(self._under_way), sql.renew)

    async def recover(self) -> None:
        """Free what died with its claimant."""
        if freed := await self._store.transact(partial(sql.recover, claimant=self._claimant)):
            _log.warning("bulk jobs whose daemon died go on", extra={"jobs": freed[:10]})
            self._wake.set()

    async def _look_for_canceled(self) -> None:
        for running in list(self._under_way.values()):
            found = await self._store.read(partial(sql.get, job_id=running.job.id))
            if found is None or found.is_canceled:
                running.over.set()

    # One job.

    async def _run(self, running: _Running) -> None:
        job_id, is_left = running.job.id, True
        try:
            is_left = not await self._work_off(running)
        except Exception:  # noqa: BLE001 - one job ends, the others go on
            is_left = False  # or it would be taken up again at once; its claim is found abandoned
            _log.exception("a bulk job failed", extra={"job_id": job_id})
        finally:
            if is_left:
                with trio.move_on_after(CLOSING_SECONDS, shield=True):
                    await self._leave(running)
            del self._under_way[job_id]
            self._wake.set()

    async def _work_off(self, running: _Running) -> bool:
        """Have the open chunks processed; return whether the job came to its end."""
        job = running.job
        open_chunks = await self._store.read(partial(sql.open_chunks, job_id=job.id))
        limit = trio.Semaphore(CHUNKS_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for number, message_ids in open_chunks:
                await limit.acquire()
                if running.over.is_set():
                    break
                nursery.start_soon(self._chunk, running, limit, number, message_ids)
        return running.job.finished_at is not None

    async def _chunk(
        self, running: _Running, limit: trio.Semaphore, number: int, message_ids: tuple[str, ...]
    ) -> None:
        job = running.job
        chunk = Chunk(
            message_ids=message_ids,
            organization_id=job.organization_id,
            priority=job.priority,
            metadata=job.metadata,
            key=f"{job.id}:{number}",
        )
        try:
            items = await self._items(running, chunk)
            if items is not None:
                await self._record(running, number, self._bulks.emails_of(chunk, items, job.id))
        finally:
            limit.release()

    async def _items(self, running: _Running, chunk: Chunk) -> list[Item] | None:
        """Return what became of a chunk; None if the job ends or the daemon stops before it was asked for.

        What a slow worker did not come to is asked for again, as long as it comes to some of it each time.
        """
        found: dict[str, Item] = {}
        left, again = chunk, 0
        while True:
            items = await self._ask(running, left)
            if items is None:
                return None
            found.update((one.message_id, one) for one in items)
            late = tuple(one.message_id for one in items if one.is_late)
            if not late or len(late) == len(items):
                return [found[one] for one in chunk.message_ids]
            again += 1
            left = attrs.evolve(chunk, message_ids=late, key=f"{chunk.key}:{again}")

    async def _ask(self, running: _Running, chunk: Chunk) -> list[Item] | None:
        asked = Asked(organization_id=chunk.organization_id, request_id=chunk.key)
        begun, attempts, pause = trio.current_time(), 0, FIRST_PAUSE
        cause: MeshError | NoTurnError | WorkersFailedError
        while True:
            try:
                items = await self._bulks.ask(chunk, asked)
            except (*UNAVAILABLE, UpstreamUnreachableError, WorkersBusyError) as error:
                cause, is_over = error, trio.current_time() >= running.answered_at + self._patience()
            except (MeshError, WorkersFailedError) as error:
                attempts += 1
                cause, is_over = error, attempts >= ATTEMPTS or type(error) is WorkersFailedError
            else:
                running.answered_at = trio.current_time()
                return items
            if is_over:
                took = round((trio.current_time() - begun) * 1000)
                return failed(chunk.message_ids, str(cause), getattr(cause, "service_id", None), took)
            with trio.move_on_after(pause * self._rng.uniform(0.5, 1.0)):
                await running.over.wait()
            if running.over.is_set():
                return None
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _record(self, running: _Running, number: int, emails: Sequence[Email]) -> None:
        """Write a chunk down, however long the store refuses; with the last one the job ends.

        Cut off before that, it is asked for again, under the same key.
        """
        work = partial(self._write, job_id=running.job.id, number=number, emails=emails)
        pause = FIRST_PAUSE
        while True:
            try:
                job = await self._store.transact(work)
            except StoreError as error:
                _log.warning("a chunk of a bulk job waits for the store: %s", error)
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                break
        if job is None:
            _log.warning("another daemon has taken a bulk job over", extra={"job_id": running.job.id})
            running.over.set()
            return
        running.job = job
        if job.is_canceled:
            running.over.set()
        now = trio.current_time()
        if job.finished_at is not None or now >= running.told_at + PROGRESS_EVERY:
            running.told_at = now
            self._progress(job)

    def _write(
        self, connection: Connection, job_id: str, number: int, emails: Sequence[Email]
    ) -> BulkJob | None:
        self._recorder.hold(connection)
        job = sql.record(connection, job_id, self._claimant, number, emails)
        if job is None:
            return None
        self._recorder.count(connection, emails)
        return finish(connection, job, self._recorder) if job.done == job.total else job

    async def _leave(self, running: _Running) -> None:
        """End a job that was canceled; give one back that the daemon's end cut off."""
        job_id = running.job.id

        def work(connection: Connection) -> None:
            self._recorder.hold(connection)
            job = sql.get(connection, job_id)
            if (
                job is None
                or job.finished_at is not None
                or job_id not in sql.claimed_by(connection, self._claimant)
            ):
                return
            if job.is_canceled:
                running.job = finish(connection, job, self._recorder)
            else:
                sql.give_back(connection, [job_id], self._claimant)
                connection.announce(TOPIC)

        try:
            await self._store.transact(work)
        except StoreError as error:
            _log.warning("could not give a bulk job back: %s", error, extra={"job_id": job_id})
        if running.job.finished_at is not None:
            self._progress(running.job)
