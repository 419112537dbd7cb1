"""The registry: instances of services, and how far each daemon's has come."""

STATEMENTS = """
CREATE TABLE registries (
    daemon_id TEXT NOT NULL PRIMARY KEY,
    newest_index BIGINT NOT NULL
) {keyed};
CREATE TABLE instances (
    daemon_id TEXT NOT NULL,
    id TEXT NOT NULL,
    generation BIGINT NOT NULL,
    registered_at BIGINT NOT NULL,
    is_static BOOLEAN NOT NULL,
    registration TEXT NOT NULL,
    endpoints TEXT NOT NULL,
    draining BOOLEAN NOT NULL,
    expired BOOLEAN NOT NULL,
    stale BOOLEAN NOT NULL,
    verdict TEXT,
    reason TEXT NOT NULL,
    PRIMARY KEY (daemon_id, id)
) {keyed};
"""
