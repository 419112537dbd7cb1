"""Workers: what became of e-mails, and bulk jobs."""

STATEMENTS = """
CREATE TABLE emails (
    id TEXT NOT NULL PRIMARY KEY,
    message_id TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    priority TEXT NOT NULL,
    status TEXT NOT NULL,
    result TEXT,
    error TEXT,
    service_id TEXT,
    response_time INTEGER NOT NULL,
    job_id TEXT,
    recorded_at BIGINT NOT NULL
) {keyed};
CREATE INDEX emails_message ON emails (message_id, id);
CREATE INDEX emails_organization ON emails (organization_id, id);
CREATE INDEX emails_failed ON emails (id) WHERE status = 'failed';
CREATE TABLE bulk_jobs (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL,
    priority TEXT NOT NULL,
    metadata TEXT,
    status TEXT NOT NULL,
    total INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    successful INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    is_canceled BOOLEAN NOT NULL,
    error TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    start_after BIGINT,
    claimed_by TEXT,
    lease_until BIGINT
) {keyed};
CREATE INDEX bulk_jobs_waiting ON bulk_jobs (start_after) WHERE start_after IS NOT NULL;
CREATE INDEX bulk_jobs_claimed ON bulk_jobs (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE TABLE bulk_items (
    job_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    email_id TEXT,
    PRIMARY KEY (job_id, place)
) {keyed};
"""
