"""The hot statements of a run's life, run on the driver from their compiled text.

Parameters are named ``g_…`` (given), since SQLAlchemy keeps a column's own name for itself.
"""

import sqlalchemy as sa
from sqlalchemy import bindparam as given

from econeura_daemon.cron.model import RunStatus
from econeura_daemon.storage import Hot, tables
from econeura_daemon.storage.dialect import insert as insert_or
from econeura_daemon.storage.dialect import now_ms, skip_locked

_jobs = tables.cron_jobs
_runs = tables.cron_runs

running: sa.ColumnElement[bool] = _runs.c.claimed_by.is_not(None)
"""As the partial index says it."""

DUE = Hot(
    skip_locked(
        sa.select(_jobs)
        .where(_jobs.c.due_at <= given("g_now"))
        .order_by(_jobs.c.due_at)
        .limit(given("g_limit", type_=sa.Integer))
    ),
    "g_now", "g_limit",
)  # fmt: skip
NEXT_DUE = Hot(
    sa.select(_jobs.c.due_at).where(_jobs.c.due_at.is_not(None)).order_by(_jobs.c.due_at).limit(1),
)
ADVANCE = Hot(
    sa.update(_jobs)
    .where(_jobs.c.id == given("g_id"))
    .values(
        last_scheduled_at=given("g_last_scheduled_at"),
        next_at=given("g_next_at"),
        due_at=given("g_due_at"),
        missed_count=_jobs.c.missed_count + given("g_missed"),
        skipped_count=_jobs.c.skipped_count + given("g_skipped"),
        late_count=_jobs.c.late_count + given("g_late"),
    ),
    "g_last_scheduled_at", "g_next_at", "g_due_at", "g_missed", "g_skipped", "g_late", "g_id",
)  # fmt: skip
COUNT_END = Hot(
    sa.update(_jobs)
    .where(_jobs.c.id == given("g_id"))
    .values(
        run_count=_jobs.c.run_count + 1,
        error_count=_jobs.c.error_count + given("g_failed", type_=sa.Integer),
        failures_in_row=(_jobs.c.failures_in_row + 1) * given("g_failed", type_=sa.Integer),
        last_run_at=given("g_last_run_at"),
        last_status=given("g_last_status"),
    ),
    "g_failed", "g_last_run_at", "g_last_status", "g_id",
)  # fmt: skip
COUNT_LATE = Hot(
    sa.update(_jobs).where(_jobs.c.id == given("g_id")).values(late_count=_jobs.c.late_count + 1), "g_id"
)

INSERT_RUN = Hot(
    insert_or(_runs)
    .values(
        id=given("g_id"),
        job_id=given("g_job_id"),
        scheduled_for=given("g_scheduled_for"),
        trigger=given("g_trigger"),
        status=given("g_status"),
        attempt=given("g_attempt"),
        start_after=given("g_start_after"),
        started_at=given("g_started_at"),
        finished_at=given("g_finished_at"),
        error=given("g_error"),
        claimed_by=given("g_claimed_by"),
        lease_until=now_ms() + given("g_lease", type_=sa.BigInteger),
    )
    .on_conflict_do_nothing()
    .returning(_runs.c.id),
    "g_id", "g_job_id", "g_scheduled_for", "g_trigger", "g_status", "g_attempt", "g_start_after", "g_started_at",
    "g_finished_at", "g_error", "g_claimed_by", "g_lease",
)  # fmt: skip

_waiting = skip_locked(
    sa.select(_runs.c.id)
    .where(_runs.c.start_after <= given("g_now"))
    .order_by(_runs.c.start_after)
    .limit(given("g_limit", type_=sa.Integer))
).cte("waiting")  # a subquery might be run again for each row, and claim more than it may
CLAIM = Hot(
    sa.update(_runs)
    .where(_runs.c.id.in_(sa.select(_waiting.c.id)))
    .values(
        status=RunStatus.RUNNING.value,
        attempt=_runs.c.attempt + 1,
        start_after=None,
        started_at=given("g_now"),
        error=None,
        claimed_by=given("g_claimed_by"),
        lease_until=now_ms() + given("g_lease", type_=sa.BigInteger),
    )
    .returning(_runs.c.id, _runs.c.job_id, _runs.c.scheduled_for, _runs.c.trigger, _runs.c.attempt),
    "g_now", "g_limit", "g_claimed_by", "g_lease",
)  # fmt: skip
NEXT_WAITING = Hot(
    sa.select(_runs.c.start_after)
    .where(_runs.c.start_after.is_not(None))
    .order_by(_runs.c.start_after)
    .limit(1),
)

_held = (
    _runs.c.id == given("g_id"),
    _runs.c.claimed_by == given("g_claimed_by"),
    _runs.c.attempt == given("g_number"),
)
"""The claim under which an attempt was made: a later attempt, even of the same daemon, is another claim."""

FINISH = Hot(
    sa.update(_runs)
    .where(*_held)
    .values(
        status=given("g_status"),
        start_after=given("g_start_after"),
        finished_at=given("g_finished_at"),
        output=given("g_output"),
        error=given("g_error"),
        claimed_by=None,
        lease_until=None,
    )
    .returning(_runs.c.id),
    "g_status", "g_start_after", "g_finished_at", "g_output", "g_error", "g_id", "g_claimed_by", "g_number",
)  # fmt: skip
GIVE_BACK = Hot(
    sa.update(_runs)
    .where(*_held)
    .values(
        status=RunStatus.QUEUED.value,
        attempt=_runs.c.attempt - 1,
        start_after=given("g_start_after"),
        started_at=None,
        claimed_by=None,
        lease_until=None,
    ),
    "g_start_after", "g_id", "g_claimed_by", "g_number",
)  # fmt: skip
RENEW = Hot(
    sa.update(_runs)
    .where(*_held)
    .values(lease_until=now_ms() + given("g_lease", type_=sa.BigInteger)),
    "g_lease", "g_id", "g_claimed_by", "g_number",
)  # fmt: skip

_first_waiting = (
    sa.select(_runs.c.id)
    .where(
        _runs.c.job_id == given("g_job_id"),
        _runs.c.finished_at.is_(None),
        _runs.c.claimed_by.is_(None),
        _runs.c.start_after.is_(None),
    )
    .order_by(_runs.c.id)
    .limit(1)
    .scalar_subquery()
)
RELEASE_NEXT = Hot(
    sa.update(_runs).where(_runs.c.id == _first_waiting).values(start_after=given("g_now")),
    "g_now", "g_job_id",
)  # fmt: skip
"""Let the first of the runs go that wait for the job's run before them."""

_kept_from = (
    sa.select(_runs.c.id)
    .where(_runs.c.job_id == given("g_job_id"))
    .order_by(_runs.c.id.desc())
    .limit(1)
    .offset(given("g_keep", type_=sa.Integer))
    .scalar_subquery()
)
TRIM = Hot(
    sa.delete(_runs).where(
        _runs.c.job_id == given("g_job_id"), _runs.c.id <= _kept_from, _runs.c.finished_at.is_not(None)
    ),
    "g_job_id", "g_keep",
)  # fmt: skip
"""Forget the runs of a job but the newest; those that are open stay."""
