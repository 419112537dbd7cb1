"""Due ticks become runs: claimed, written down and passed in one transaction.

That is what makes every tick run once: a job is advanced past its ticks in the transaction that writes their runs, and
no two transactions hold one job. The unique key of a run (job and tick) stands behind it.
"""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import attrs
import sqlalchemy as sa

from econeura_daemon.core.clock import from_ms
from econeura_daemon.core.ids import new_id
from econeura_daemon.core.jobs import ActionBody, ActionKind, Misfire
from econeura_daemon.cron.errors import ScheduleError
from econeura_daemon.cron.model import Claimed, Job, Run, RunStatus, RunTrigger
from econeura_daemon.cron.planning import Plan, Watch, plan
from econeura_daemon.cron.policies import LATE_MS, Admission, admit, offset_ms
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.schedules import schedule_of, unreadable
from econeura_daemon.cron.store import jobs as sql
from econeura_daemon.cron.store import statements as hot
from econeura_daemon.cron.store.instants import present
from econeura_daemon.cron.store.looks import Look, Taking
from econeura_daemon.storage import Connection, tables
from econeura_daemon.storage.model import Claimant

_runs = tables.cron_runs

_DUE_AT = list(tables.cron_jobs.c).index(tables.cron_jobs.c.due_at)

TRIM_EVERY = 64
"""Ticks of a job, on average, between two looks at how many of its runs are kept."""


class Taker:
    """Takes what is due."""

    def __init__(self, reports: Reports, rng: Random) -> None:
        self._reports = reports
        self._rng = rng

    def look(self, connection: Connection, asked: Taking) -> Look:
        """Claim runs that wait and ticks that are due, as far as there is room; write down what became of each."""
        self._reports.hold(connection)
        now = present(connection, asked.claimant, asked.now)
        before = asked.watch
        watch = (
            Watch(now, asked.monotonic_ms, now) if before is None else before.look(now, asked.monotonic_ms)
        )
        begun = self._claim_waiting(connection, asked, now) if asked.room > 0 else []
        taken = _Taken(
            taker=self, connection=connection, asked=asked, now=now, watched_since=watch.since, begun=begun
        )
        due = connection.rows(hot.DUE, (now, asked.batch))
        taken.take([sql.from_row(row) for row in due])
        return Look(
            now=now,
            watch=watch,
            set_back=before is not None and before.is_set_back(now, asked.monotonic_ms),
            begun=begun,
            is_full=len(begun) >= asked.room,
            jobs=len(due),
            ticks=taken.ticks,
            missed=taken.missed,
            late_ms=now - max(due[0][_DUE_AT], watch.since) if due else None,
            next_at=self._next(connection, has_room=len(begun) < asked.room),
        )

    def _claim_waiting(self, connection: Connection, asked: Taking, now: int) -> list[Claimed]:
        mark, lease = asked.claimant.mark, asked.claimant.lease_ms
        rows = connection.rows(hot.CLAIM, (now, asked.room, mark, lease))
        bodies = sql.names(connection, {row[1] for row in rows}) if rows else {}
        claimed = []
        for run_id, job_id, scheduled_for, trigger, attempt in sorted(rows):
            body = bodies.get(job_id)
            if body is None:  # deleted a moment ago, by a transaction that did not see this run
                connection.execute(sa.delete(_runs).where(_runs.c.id == run_id))
                continue
            run = Run(
                id=run_id,
                job_id=job_id,
                scheduled_for=scheduled_for,
                trigger=RunTrigger(trigger),
                status=RunStatus.RUNNING,
                attempt=attempt,
                started_at=now,
            )
            if attempt == 1 and now - scheduled_for - offset_ms(job_id, body.jitter_ms) > LATE_MS:
                connection.run(hot.COUNT_LATE, [(job_id,)])
            claimed.append(Claimed(run=run, body=body))
        return claimed

    @staticmethod
    def _next(connection: Connection, *, has_room: bool) -> int | None:
        found = connection.rows(hot.NEXT_DUE)
        if has_room:
            found += connection.rows(hot.NEXT_WAITING)
        return min((row[0] for row in found), default=None)

    def run_id(self, scheduled_for: int) -> str:
        """Return a new id; ids sort by the ticks."""
        return new_id("run", from_ms(scheduled_for), self._rng)

    def is_to_trim(self, written: int) -> bool:
        """Tell whether to look at a job's history after so many runs were added to it."""
        return written > self._rng.random() * TRIM_EVERY

    @property
    def reports(self) -> Reports:
        """Tells how runs ended."""
        return self._reports


class _Taken:
    """One look's work on the jobs that are due."""

    def __init__(
        self,
        *,
        taker: Taker,
        connection: Connection,
        asked: Taking,
        now: int,
        watched_since: int,
        begun: list[Claimed],
    ) -> None:
        self._taker = taker
        self._connection = connection
        self._asked = asked
        self._now = now
        self._watched_since = watched_since
        self._begun = begun
        self._ended: list[tuple[Run, str]] = []
        self._published: list[ActionBody] = []
        self._counted: list[tuple[Any, ...]] = []
        self._open: dict[str, int] = {}
        self._skipped = self._late = 0
        self.ticks = self.missed = 0

    def take(self, due: Sequence[Job]) -> None:
        """Take every job's due ticks."""
        jobs = [job for job in due if self._is_readable(job)]
        self._open = _open_runs(self._connection, [job.id for job in jobs]) if jobs else {}
        advances = [self._take_one(job) for job in jobs]
        if advances:
            self._connection.run(hot.ADVANCE, advances)
            self._connection.run(hot.COUNT_END, self._counted)
            self._taker.reports.publish(self._connection, self._published, self._now)
            self._taker.reports.ended(self._connection, self._ended, self._now)

    def _is_readable(self, job: Job) -> bool:
        """Tell whether the job's schedule can be read, as it could when it was made; else it is disabled."""
        try:
            schedule_of(job.body)
        except ScheduleError as error:
            sql.replace(self._connection, unreadable(job, error, self._now))
            return False
        return True

    def _take_one(self, job: Job) -> tuple[Any, ...]:
        """Write the runs of one job's due ticks; return its row of `statements.ADVANCE`."""
        assert job.next_at is not None, "what is due has a next tick"
        body = job.body
        offset = offset_ms(job.id, body.jitter_ms)
        planned = plan(
            schedule_of(body),
            job.next_at,
            self._now - offset,
            watched_since=self._watched_since - offset,
            misfire=body.misfire,
            window_ms=body.misfire_window_ms,
        )
        self._skipped = self._late = 0
        missed = self._miss(job, planned)
        for tick in planned.runs:
            self._run(job, tick, late=self._now - offset - tick > LATE_MS)
        self.missed += missed
        self.ticks += len(planned.runs)
        if self._taker.is_to_trim(len(planned.runs) + len(planned.missed)):
            self._connection.run(hot.TRIM, [(job.id, self._asked.keep_runs)])
        due_at = None if planned.next is None else planned.next + offset
        last = planned.last
        if job.last_scheduled_at is not None:  # a clock that was set back may come by it again
            last = max(last, job.last_scheduled_at)
        return (last, planned.next, due_at, missed, self._skipped, self._late, job.id)

    def _miss(self, job: Job, planned: Plan) -> int:
        older = planned.missed_uncounted
        for tick in planned.missed:
            error = "nobody was there when it fell due"
            if older:
                error += f"; {older} before it were missed too, and are not listed"
                older = 0
            run = self._ended_run(job, tick, RunStatus.MISSED, error)
            if self._insert(run):
                self._ended.append((run, job.body.name))
        return len(planned.missed) + planned.missed_uncounted

    def _run(self, job: Job, tick: int, *, late: bool) -> None:
        body, taker, now = job.body, self._taker, self._now
        open_runs = self._open.get(job.id, 0)
        admission = admit(body.overlap, open_runs, catches_up=late and body.misfire is Misfire.ALL)
        if body.action.kind is ActionKind.EVENT:
            run = self._ended_run(job, tick, RunStatus.SUCCEEDED, None)
            run = attrs.evolve(run, attempt=1, started_at=now)
            if self._insert(run):
                self._late += late
                self._published.append(body.action)
                self._counted.append((0, now, run.status.value, job.id))
                self._ended.append((run, job.body.name))
            return
        if admission is Admission.SKIP:
            error = "a run of the job was under way"
            self._skipped += self._insert(self._ended_run(job, tick, RunStatus.SKIPPED, error))
            return
        run = Run(
            id=taker.run_id(tick),
            job_id=job.id,
            scheduled_for=tick,
            trigger=RunTrigger.SCHEDULED,
            status=RunStatus.QUEUED,
            attempt=0,
        )
        if admission is Admission.START and len(self._begun) < self._asked.room:
            run = attrs.evolve(run, status=RunStatus.RUNNING, attempt=1, started_at=now)
            if self._insert(run):
                self._late += late
                self._begun.append(Claimed(run=run, body=body))
        else:
            self._insert(run, start_after=now if admission is Admission.START else None)
        self._open[job.id] = open_runs + 1

    def _ended_run(self, job: Job, tick: int, status: RunStatus, error: str | None) -> Run:
        return Run(
            id=self._taker.run_id(tick),
            job_id=job.id,
            scheduled_for=tick,
            trigger=RunTrigger.SCHEDULED,
            status=status,
            attempt=0,
            finished_at=self._now,
            error=error,
        )

    def _insert(self, run: Run, *, start_after: int | None = None) -> bool:
        return insert(self._connection, run, self._asked.claimant, start_after=start_after)


def insert(connection: Connection, run: Run, claimant: Claimant, *, start_after: int | None) -> bool:
    """Write a new run, claimed if it is running; return False if its tick has one already."""
    claimed = run.status is RunStatus.RUNNING
    return bool(
        connection.rows(
            hot.INSERT_RUN,
            (
                run.id, run.job_id, run.scheduled_for, run.trigger.value, run.status.value, run.attempt, start_after,
                run.started_at, run.finished_at, run.error, claimant.mark if claimed else None,
                claimant.lease_ms if claimed else None,
            ),
        )
    )  # fmt: skip


def _open_runs(connection: Connection, job_ids: Iterable[str]) -> dict[str, int]:
    """Return how many runs of each job have not come to an end."""
    counted = (
        sa.select(_runs.c.job_id, sa.func.count().label("open_runs"))
        .where(_runs.c.finished_at.is_(None), _runs.c.job_id.in_(job_ids))
        .group_by(_runs.c.job_id)
    )
    return {row.job_id: row.open_runs for row in connection.execute(counted)}
