"""Bulk jobs as users handle them: begin one, look at it, cancel it."""

from collections.abc import Callable
from functools import partial

import attrs

from econeura_daemon.core.errors import NotFoundError
from econeura_daemon.storage import Connection, Store
from econeura_daemon.workers.chunks import distinct
from econeura_daemon.workers.commands import ProcessBulk
from econeura_daemon.workers.model import BulkJob
from econeura_daemon.workers.recording import Recorder
from econeura_daemon.workers.runner import TOPIC, finish
from econeura_daemon.workers.store import bulk_jobs as sql

Also = Callable[[Connection, BulkJob], None]


class BulkJobs:
    """Bulks that go on by themselves. What a method returned is committed."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder

    async def begin(self, command: ProcessBulk, also: Also | None = None) -> BulkJob:
        """Write the job down, whole, each e-mail once; ``also`` runs in the same transaction."""
        message_ids = distinct(command.message_ids)
        job = BulkJob(
            id=self._recorder.new_id("blk"),
            organization_id=command.organization_id,
            priority=command.priority,
            metadata=command.metadata,
            total=len(message_ids),
            created_at=self._recorder.now,
        )

        def work(connection: Connection) -> BulkJob:
            sql.insert(connection, job, message_ids)
            if also is not None:
                also(connection, job)
            connection.announce(TOPIC)
            return job

        return await self._store.ingest(work)

    async def get(self, job_id: str) -> BulkJob:
        """Return the job. Raises `NotFoundError`."""
        return _found(await self._store.read(partial(sql.get, job_id=job_id)), job_id)

    async def page(self, before: str | None, limit: int) -> list[BulkJob]:
        """Return jobs, the latest first, from below the id ``before``."""
        return await self._store.read(partial(sql.page, before=before, limit=limit))

    async def results(self, job_id: str, after: int | None, limit: int) -> list[sql.Placed]:
        """Return what became of its e-mails so far, in the order asked, from behind the place ``after``."""
        return await self._store.read(partial(sql.results, job_id=job_id, after=after, limit=limit))

    async def cancel(self, job_id: str) -> BulkJob:
        """Let nothing more of the job begin; what is under way ends. Harmless when repeated. Raises `NotFoundError`."""

        def work(connection: Connection) -> BulkJob:
            self._recorder.hold(connection)
            found = sql.cancel(connection, job_id)
            if found is None:
                raise NotFoundError("bulk job", job_id)
            job, is_idle = found
            connection.announce(TOPIC)
            if is_idle:
                return finish(connection, attrs.evolve(job, is_canceled=True), self._recorder)
            return job

        return await self._store.transact(work)


def _found(job: BulkJob | None, job_id: str) -> BulkJob:
    if job is None:
        raise NotFoundError("bulk job", job_id)
    return job
