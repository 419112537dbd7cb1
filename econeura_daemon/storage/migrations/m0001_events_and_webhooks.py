"""The event log, subscriptions, deliveries, attempts, totals and idempotency keys."""

STATEMENTS = """
CREATE TABLE meta (
    "key" TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE events (
    cursor {cursor},
    id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    source TEXT NOT NULL,
    occurred_at BIGINT NOT NULL,
    body {bytes} NOT NULL,
    trace TEXT
);
CREATE INDEX events_type ON events (type, cursor);
CREATE TABLE subscriptions (
    id TEXT NOT NULL PRIMARY KEY,
    url TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    deleted_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    description TEXT,
    patterns TEXT NOT NULL,
    headers TEXT NOT NULL,
    secrets TEXT NOT NULL,
    retry_policy TEXT,
    max_in_flight INTEGER,
    disabled_reason TEXT,
    failure_count INTEGER NOT NULL DEFAULT 0,
    first_failure_at BIGINT,
    last_delivery_at BIGINT
);
CREATE TABLE subscription_patterns (
    pattern TEXT NOT NULL,
    subscription_id TEXT NOT NULL,
    PRIMARY KEY (pattern, subscription_id)
) {keyed};
CREATE TABLE deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    event_id TEXT NOT NULL,
    event_cursor BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    subscription_id TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    next_attempt_at BIGINT,
    last_attempt_at BIGINT,
    last_error TEXT,
    response_code INTEGER,
    response_time INTEGER,
    claimed_by TEXT,
    lease_until BIGINT
) {keyed};
CREATE UNIQUE INDEX deliveries_event ON deliveries (event_id, subscription_id);
CREATE INDEX deliveries_due ON deliveries (subscription_id, next_attempt_at, event_cursor)
    WHERE status IN ('pending', 'retrying');
CREATE INDEX deliveries_claimed ON deliveries (claimed_by) WHERE status = 'delivering';
CREATE INDEX deliveries_subscription ON deliveries (subscription_id, id);
CREATE INDEX deliveries_failed ON deliveries (id) WHERE status = 'failed';
CREATE TABLE attempts (
    delivery_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    id TEXT NOT NULL,
    "trigger" TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    duration_ms INTEGER,
    status_code INTEGER,
    error TEXT,
    response_headers TEXT,
    response_body {bytes},
    PRIMARY KEY (delivery_id, number)
) {keyed};
CREATE TABLE delivery_totals (
    daemon_id TEXT NOT NULL PRIMARY KEY,
    created BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    canceled BIGINT NOT NULL
) {keyed};
CREATE TABLE idempotency_keys (
    scope TEXT NOT NULL,
    "key" TEXT NOT NULL,
    body_hash {bytes} NOT NULL,
    created_at BIGINT NOT NULL,
    status INTEGER NOT NULL,
    response {bytes} NOT NULL,
    PRIMARY KEY (scope, "key")
) {keyed};
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
"""
