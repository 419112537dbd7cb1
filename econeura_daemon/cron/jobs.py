"""Jobs as users handle them: create, read, edit, enable, disable, run now, delete."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from random import Random
from typing import Any

import attrs

from econeura_daemon.core.clock import Clock, format_ms, from_ms, to_ms
from econeura_daemon.core.errors import ConflictError, NotFoundError
from econeura_daemon.core.ids import new_id
from econeura_daemon.core.jobs import ActionKind, JobBody, Overlap
from econeura_daemon.core.structuring import structure_json
from econeura_daemon.cron.commands import CreateJob, EditedJob
from econeura_daemon.cron.model import Job, Run, RunStatus, RunTrigger
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.rescheduling import rescheduled
from econeura_daemon.cron.schedules import next_runs
from econeura_daemon.cron.store import jobs as sql
from econeura_daemon.cron.store import runs as runs_sql
from econeura_daemon.cron.store.instants import present
from econeura_daemon.cron.store.ticks import insert
from econeura_daemon.cron.ticker import TOPIC
from econeura_daemon.storage import Connection, Store
from econeura_daemon.storage.model import Claimant

Also = Callable[[Connection, Job], None]
AlsoRun = Callable[[Connection, Run], None]

DISABLED = "disabled by a user"
_WHEN = ("schedule", "time_zone", "dst_gap", "dst_fold")
"""What tells when a job is due."""


class Jobs:
    """What is due when. What a method returned is committed."""

    def __init__(
        self,
        *,
        store: Store,
        reports: Reports,
        claimant: Claimant,
        clock: Clock,
        rng: Random,
        own: Collection[str] = (),
    ) -> None:
        """``own``: ids of jobs that the program itself declares."""
        self._store = store
        self._reports = reports
        self._claimant = claimant
        self._clock = clock
        self._rng = rng
        self._own = frozenset(own)

    async def create(self, command: CreateJob, also: Also | None = None) -> Job:
        """Create a job; ``also`` runs in the same transaction. Raises `ConflictError` if its id is taken."""
        local = self._clock.now()
        job_id = command.id or new_id("job", local, self._rng)
        body = _body_of(command)

        def work(connection: Connection) -> Job:
            now = self._begin(connection)
            if sql.get(connection, job_id) is not None:
                raise ConflictError(f"There is a job {job_id!r} already")
            job = new_job(job_id, body, now)
            sql.insert(connection, [job])
            if also is not None:
                also(connection, job)
            connection.announce(TOPIC)
            return job

        return await self._store.transact(work)

    async def get(self, job_id: str) -> Job:
        """Return the job. Raises `NotFoundError`."""
        return _found(await self._store.read(partial(sql.get, job_id=job_id)), job_id)

    async def page(self, after: str | None, limit: int) -> list[Job]:
        """Return jobs in the order of their ids, from behind the id ``after``."""
        return await self._store.read(partial(sql.page, after=after, limit=limit))

    async def patch(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        """Lay ``changes`` (JSON members) over the job; null takes a member back to its default.

        Raises `NotFoundError`, `ConflictError` for one that the configuration declares, and `InvalidInputError` if
        the result does not fit.
        """

        def edited(body: JobBody) -> JobBody:
            merged = {**body.to_json(), **changes}
            return _body_of(structure_json(_without_nulls(merged, changes), EditedJob))

        return await self._change(job_id, edited)

    async def enable(self, job_id: str) -> Job:
        """Let the job be due again, from now on: what it was not run for meanwhile stays so.

        Raises as `patch`; what the program itself declares may be switched, and stays so over restarts.
        """
        return await self._change(job_id, lambda body: attrs.evolve(body, enabled=True), switches=True)

    async def disable(self, job_id: str) -> Job:
        """Let the job not be due any more; runs under way go on. Raises as `enable`."""
        return await self._change(job_id, lambda body: attrs.evolve(body, enabled=False), switches=True)

    async def delete(self, job_id: str) -> None:
        """Delete the job and its history. Raises `NotFoundError`, and `ConflictError` for one of the configuration."""

        def work(connection: Connection) -> None:
            self._begin(connection)
            self._refuse_declared(_found(sql.get_for_update(connection, job_id), job_id))
            sql.delete(connection, job_id)

        await self._store.transact(work)

    async def run(self, job_id: str, also: AlsoRun | None = None) -> Run:
        """Run the job once, now, whether it is enabled or not. Raises `NotFoundError`.

        Unless the job may overlap, the run waits for the one that is under way.
        """

        def work(connection: Connection) -> Run:
            now = self._begin(connection)
            job = _found(sql.get_for_update(connection, job_id), job_id)
            run = self._run_now(connection, job, now)
            if also is not None:
                also(connection, run)
            connection.announce(TOPIC)
            return run

        return await self._store.transact(work)

    async def runs(self, job_id: str, status: RunStatus | None, before: str | None, limit: int) -> list[Run]:
        """Return runs of the job, the latest tick first. Raises `NotFoundError`."""

        def work(connection: Connection) -> list[Run]:
            _found(sql.get(connection, job_id), job_id)
            return runs_sql.page(connection, job_id, status, before, limit)

        return await self._store.read(work)

    async def stats(self) -> dict[str, Any]:
        """Count jobs and what became of their ticks."""
        counted = await self._store.read(sql.stats)
        next_at = counted["nextRun"]
        return {**counted, "nextRun": None if next_at is None else format_ms(next_at)}

    def _begin(self, connection: Connection) -> int:
        """Begin a transaction that touches jobs; return the instant that counts."""
        self._reports.hold(connection)
        return present(connection, self._claimant, to_ms(self._clock.now()))

    async def _change(
        self, job_id: str, edited: Callable[[JobBody], JobBody], *, switches: bool = False
    ) -> Job:
        def work(connection: Connection) -> Job:
            now = self._begin(connection)
            before = _found(sql.get_for_update(connection, job_id), job_id)
            if not (switches and job_id in self._own):
                self._refuse_declared(before)
            after = changed(before, edited(before.body), now)
            sql.replace(connection, after)
            connection.announce(TOPIC)
            return after

        return await self._store.transact(work)

    def _refuse_declared(self, job: Job) -> None:
        if job.declared_by == self._claimant.daemon_id:
            raise ConflictError(f"The job {job.id!r} is declared in the configuration; change it there")

    def _run_now(self, connection: Connection, job: Job, now: int) -> Run:
        run = Run(
            id=new_id("run", from_ms(now), self._rng),
            job_id=job.id,
            scheduled_for=now,
            trigger=RunTrigger.MANUAL,
            status=RunStatus.QUEUED,
            attempt=0,
        )
        action = job.body.action
        if action.kind is ActionKind.EVENT:
            run = attrs.evolve(run, status=RunStatus.SUCCEEDED, attempt=1, started_at=now, finished_at=now)
            insert(connection, run, self._claimant, start_after=None)
            self._reports.publish(connection, [action], now)
            runs_sql.finish(connection, run, None)
            self._reports.ended(connection, [(run, job.body.name)], now)
            return run
        alone = job.body.overlap is not Overlap.ALLOW
        waits = alone and runs_sql.has_open(connection, job.id)
        insert(connection, run, self._claimant, start_after=None if waits else now)
        return run


def new_job(job_id: str, body: JobBody, now: int, declared_by: str | None = None) -> Job:
    """Return a job that is due from ``now`` on (milliseconds since the epoch)."""
    job = Job(
        id=job_id,
        body=body,
        declared_by=declared_by,
        created_at=now,
        updated_at=now,
        counts_from=now,
        disabled_reason=None if body.enabled else DISABLED,
    )
    return rescheduled(job, now)


def changed(job: Job, body: JobBody, now: int) -> Job:
    """Return the job with another body. What it says anew of when it is due counts from ``now`` on."""
    before = job.body
    if body == before:
        return job
    job = attrs.evolve(job, body=body, updated_at=now)
    if body.enabled != before.enabled:
        reason = None if body.enabled else DISABLED
        job = attrs.evolve(job, disabled_reason=reason, failures_in_row=0)
    enabled_now = body.enabled and not before.enabled
    if enabled_now or any(getattr(body, name) != getattr(before, name) for name in _WHEN):
        job = attrs.evolve(job, counts_from=now)
    return rescheduled(job, now)


def job_json(job: Job) -> dict[str, Any]:
    """Return the job as the API shows it."""
    return job.to_json(next_runs(job.body, job.next_at))


def _body_of(command: EditedJob) -> JobBody:
    fields = attrs.fields_dict(JobBody)
    return JobBody(**{name: getattr(command, name) for name in fields})


def _without_nulls(merged: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was set to null, so that its default holds (RFC 7396)."""
    return {key: value for key, value in merged.items() if value is not None or key not in changes}


def _found(job: Job | None, job_id: str) -> Job:
    if job is None:
        raise NotFoundError("job", job_id)
    return job
