"""Cron: jobs and their runs."""

STATEMENTS = """
CREATE TABLE cron_jobs (
    id TEXT NOT NULL PRIMARY KEY,
    declared_by TEXT,
    enabled BOOLEAN NOT NULL,
    definition TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    counts_from BIGINT NOT NULL,
    last_scheduled_at BIGINT,
    next_at BIGINT,
    due_at BIGINT,
    disabled_reason TEXT,
    failures_in_row INTEGER NOT NULL DEFAULT 0,
    run_count BIGINT NOT NULL DEFAULT 0,
    error_count BIGINT NOT NULL DEFAULT 0,
    missed_count BIGINT NOT NULL DEFAULT 0,
    skipped_count BIGINT NOT NULL DEFAULT 0,
    late_count BIGINT NOT NULL DEFAULT 0,
    last_run_at BIGINT,
    last_status TEXT
) {keyed};
CREATE INDEX cron_jobs_due ON cron_jobs (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE cron_runs (
    id TEXT NOT NULL PRIMARY KEY,
    job_id TEXT NOT NULL,
    scheduled_for BIGINT NOT NULL,
    "trigger" TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    start_after BIGINT,
    started_at BIGINT,
    finished_at BIGINT,
    output TEXT,
    error TEXT,
    claimed_by TEXT,
    lease_until BIGINT
) {keyed};
CREATE UNIQUE INDEX cron_runs_tick ON cron_runs (job_id, scheduled_for) WHERE "trigger" = 'scheduled';
CREATE INDEX cron_runs_job ON cron_runs (job_id, id);
CREATE INDEX cron_runs_waiting ON cron_runs (start_after) WHERE start_after IS NOT NULL;
CREATE INDEX cron_runs_claimed ON cron_runs (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX cron_runs_open ON cron_runs (job_id) WHERE finished_at IS NULL;
"""
