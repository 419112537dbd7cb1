"""Jobs that the configuration declares: the store has them as the file says; and those of the program itself, which
users may switch on and off.

Each daemon owns what its own file declares. Where several share a store the first that declares a job owns it; a file
that does not name a job takes it away only from the daemon that owned it.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import Flaw, StoreError
from econeura_daemon.core.jobs import JobBody
from econeura_daemon.core.settings import CronJobSettings
from econeura_daemon.cron.commands import check_schedule, check_zone
from econeura_daemon.cron.jobs import changed, new_job
from econeura_daemon.cron.model import Job
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.store import jobs as sql
from econeura_daemon.cron.store.instants import present
from econeura_daemon.cron.ticker import TOPIC
from econeura_daemon.storage import Connection, Store
from econeura_daemon.storage.model import Claimant

PAUSE = 5.0
"""Seconds after which a store that refused is asked again."""

_log = logging.getLogger(__name__)


def schedule_flaws(raw: Mapping[str, Any]) -> list[Flaw]:
    """Return what is wrong with the schedules of settings as they were written, whatever else is."""
    flaws = []
    for path, check, value in _schedules(raw.get("cron")):
        try:
            if isinstance(value, str):
                check(None, None, value)
        except ValueError as error:
            flaws.append(Flaw(path, str(error)))
    return flaws


def _schedules(raw: Any) -> Iterator[tuple[str, Callable[[object, object, str], None], Any]]:
    if not isinstance(raw, dict):
        return
    yield "$.cron.cleanup", check_schedule, raw.get("cleanup") or None  # none: never
    jobs = raw.get("jobs")
    for index, job in enumerate(jobs if isinstance(jobs, list) else ()):
        if isinstance(job, dict):
            yield f"$.cron.jobs[{index}].schedule", check_schedule, job.get("schedule")
            yield f"$.cron.jobs[{index}].time_zone", check_zone, job.get("time_zone")


class Declared:
    """Keeps the store as the configuration says."""

    def __init__(
        self,
        *,
        store: Store,
        reports: Reports,
        claimant: Claimant,
        clock: Clock,
        jobs: Sequence[CronJobSettings],
        own: Sequence[CronJobSettings] = (),
    ) -> None:
        """``own``: the program's; whether one is enabled is said here only for the first time."""
        self._store = store
        self._reports = reports
        self._claimant = claimant
        self._clock = clock
        self._jobs = tuple(jobs)
        self._own = {job.key: _body_of(job) for job in own}
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<Declared: {len(self._jobs) + len(self._own)} jobs>"

    def use(self, jobs: Sequence[CronJobSettings]) -> None:
        """Let the configuration be another one from now on."""
        if tuple(jobs) != self._jobs:
            self._jobs = tuple(jobs)
            self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Declare, for ever; it has started once all is in the store. Raises `StoreError` if that does not succeed."""
        await self.declare()
        task_status.started()
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            try:
                await self.declare()
            except StoreError as error:
                _log.warning("the jobs of the configuration could not be stored: %s", error)
                await trio.sleep(PAUSE)
                self._changed.set()

    async def declare(self) -> None:
        """Write what is new or another one, and delete what the configuration does not name any more."""
        wanted = {job.key: _body_of(job) for job in self._jobs} | self._own
        now = to_ms(self._clock.now())
        taken = await self._store.transact(partial(self._declare, wanted=wanted, now=now))
        if taken:
            _log.warning(
                "the configuration declares jobs that were made through the API: %s", ", ".join(taken)
            )

    def _declare(self, connection: Connection, *, wanted: dict[str, JobBody], now: int) -> list[str]:
        """Return the jobs that were not declared before."""
        self._reports.hold(connection)
        now = present(connection, self._claimant, now)
        taken = []
        new: list[Job] = []
        for job_id, body in wanted.items():
            job = sql.get_for_update(connection, job_id)
            if job is None:
                new.append(new_job(job_id, body, now, self._claimant.daemon_id))
                continue
            if job.declared_by is None:
                taken.append(job_id)
            is_switched = job_id in self._own
            after = changed(job, attrs.evolve(body, enabled=job.body.enabled) if is_switched else body, now)
            if after != job or job.declared_by is None:
                sql.replace(
                    connection, attrs.evolve(after, declared_by=job.declared_by or self._claimant.daemon_id)
                )
        sql.insert(connection, new)
        for job in sql.declared(connection):
            if job.declared_by == self._claimant.daemon_id and job.id not in wanted:
                sql.delete(connection, job.id)
        connection.announce(TOPIC)
        return taken


def _body_of(job: CronJobSettings) -> JobBody:
    return JobBody(**{name: getattr(job, name) for name in attrs.fields_dict(JobBody)})
