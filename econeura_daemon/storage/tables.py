"""The tables of the store, for SQLite and PostgreSQL alike.

Instants are whole milliseconds since the epoch, UTC. Migrations create these tables; a test holds both against
each other. Who may write which table: the ``store.py`` of the package that stands behind the name.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

_Cursor = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite: the rowid itself
_Instant = sa.BigInteger

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""Facts about the store itself, such as the key that signs page cursors."""

events = sa.Table(
    "events",
    metadata,
    sa.Column("cursor", _Cursor, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("occurred_at", _Instant, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("trace", sa.Text),
    sa.Index("events_type", "type", "cursor"),
    sqlite_autoincrement=True,
)
"""The event log. ``body`` is the event as compact JSON, as it is sent; ``cursor`` grows in commit order, without
a gap that fills later; ``trace`` is the publisher's ``traceparent``, and ``tracestate`` behind a newline."""

subscriptions = sa.Table(
    "subscriptions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("deleted_at", _Instant),
    sa.Column("created_at", _Instant, nullable=False),
    sa.Column("updated_at", _Instant, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("patterns", sa.Text, nullable=False),
    sa.Column("headers", sa.Text, nullable=False),
    sa.Column("secrets", sa.Text, nullable=False),
    sa.Column("retry_policy", sa.Text),
    sa.Column("max_in_flight", sa.Integer),
    sa.Column("disabled_reason", sa.Text),
    sa.Column("failure_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("first_failure_at", _Instant),
    sa.Column("last_delivery_at", _Instant),
)
"""``patterns``, ``headers``, ``secrets`` and ``retry_policy`` are JSON. A deleted subscription stays as the
address of its deliveries."""

subscription_patterns = sa.Table(
    "subscription_patterns",
    metadata,
    sa.Column("pattern", sa.Text, primary_key=True),
    sa.Column("subscription_id", sa.Text, primary_key=True),
    sqlite_with_rowid=False,
)
"""The patterns of active, undeleted subscriptions: what a new event is matched against."""

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("event_cursor", sa.BigInteger, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("subscription_id", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("created_at", _Instant, nullable=False),
    sa.Column("next_attempt_at", _Instant),
    sa.Column("last_attempt_at", _Instant),
    sa.Column("last_error", sa.Text),
    sa.Column("response_code", sa.Integer),
    sa.Column("response_time", sa.Integer),
    sa.Column("claimed_by", sa.Text),
    sa.Column("lease_until", _Instant),
    sa.Index("deliveries_event", "event_id", "subscription_id", unique=True),
    sa.Index(
        "deliveries_due",
        "subscription_id",
        "next_attempt_at",
        "event_cursor",
        sqlite_where=sa.text("status IN ('pending', 'retrying')"),
        postgresql_where=sa.text("status IN ('pending', 'retrying')"),
    ),
    sa.Index(
        "deliveries_claimed",
        "claimed_by",
        sqlite_where=sa.text("status = 'delivering'"),
        postgresql_where=sa.text("status = 'delivering'"),
    ),
    sa.Index("deliveries_subscription", "subscription_id", "id"),
    sa.Index(
        "deliveries_failed",
        "id",
        sqlite_where=sa.text("status = 'failed'"),
        postgresql_where=sa.text("status = 'failed'"),
    ),
    sqlite_with_rowid=False,
)
"""``status``: pending, delivering, retrying, delivered, failed, canceled. ``claimed_by`` is the run that is
delivering it; ``lease_until`` (PostgreSQL, in the database's own time) is when its claim lapses."""

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("delivery_id", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("started_at", _Instant, nullable=False),
    sa.Column("duration_ms", sa.Integer),
    sa.Column("status_code", sa.Integer),
    sa.Column("error", sa.Text),
    sa.Column("response_headers", sa.Text),
    sa.Column("response_body", sa.LargeBinary),
    sqlite_with_rowid=False,
)
"""One row an HTTP try, written as ``started`` before its bytes go out."""

delivery_totals = sa.Table(
    "delivery_totals",
    metadata,
    sa.Column("daemon_id", sa.Text, primary_key=True),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("canceled", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""How many deliveries came and how they ended: counting rows would cost more with every one that is kept. A row
a daemon, so that daemons on one store do not wait for each other."""

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("body_hash", sa.LargeBinary, nullable=False),
    sa.Column("created_at", _Instant, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("response", sa.LargeBinary, nullable=False),
    sa.Index("idempotency_keys_age", "created_at"),
    sqlite_with_rowid=False,
)
"""The first answers to requests that bore an Idempotency-Key; ``scope`` is token and route."""

registries = sa.Table(
    "registries",
    metadata,
    sa.Column("daemon_id", sa.Text, primary_key=True),
    sa.Column("newest_index", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""How far each daemon's registry has come: the index of its last change."""

instances = sa.Table(
    "instances",
    metadata,
    sa.Column("daemon_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("registered_at", _Instant, nullable=False),
    sa.Column("is_static", sa.Boolean, nullable=False),
    sa.Column("registration", sa.Text, nullable=False),
    sa.Column("endpoints", sa.Text, nullable=False),
    sa.Column("draining", sa.Boolean, nullable=False),
    sa.Column("expired", sa.Boolean, nullable=False),
    sa.Column("stale", sa.Boolean, nullable=False),
    sa.Column("verdict", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Instances of services, each in the registry of one daemon. ``registration`` and ``endpoints`` are JSON;
``generation`` is the registry's index when it was registered. Leases are kept in memory; that one ran out stands
here."""

cron_jobs = sa.Table(
    "cron_jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("declared_by", sa.Text),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("definition", sa.Text, nullable=False),
    sa.Column("created_at", _Instant, nullable=False),
    sa.Column("updated_at", _Instant, nullable=False),
    sa.Column("counts_from", _Instant, nullable=False),
    sa.Column("last_scheduled_at", _Instant),
    sa.Column("next_at", _Instant),
    sa.Column("due_at", _Instant),
    sa.Column("disabled_reason", sa.Text),
    sa.Column("failures_in_row", sa.Integer, nullable=False, server_default="0"),
    sa.Column("run_count", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("error_count", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("missed_count", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("skipped_count", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("late_count", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("last_run_at", _Instant),
    sa.Column("last_status", sa.Text),
    sa.Index(
        "cron_jobs_due",
        "due_at",
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)
"""Cron's jobs. ``definition`` is JSON; ``declared_by`` is the daemon whose configuration declares it. Ticks before
``counts_from`` (creation, enabling, an edit) are nobody's; ``next_at`` is the next tick, ``due_at`` the same with the
job's jitter, both NULL while it is disabled."""

cron_runs = sa.Table(
    "cron_runs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("scheduled_for", _Instant, nullable=False),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("start_after", _Instant),
    sa.Column("started_at", _Instant),
    sa.Column("finished_at", _Instant),
    sa.Column("output", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("claimed_by", sa.Text),
    sa.Column("lease_until", _Instant),
    sa.Index(
        "cron_runs_tick",
        "job_id",
        "scheduled_for",
        unique=True,
        sqlite_where=sa.text("\"trigger\" = 'scheduled'"),
        postgresql_where=sa.text("\"trigger\" = 'scheduled'"),
    ),
    sa.Index("cron_runs_job", "job_id", "id"),
    sa.Index(
        "cron_runs_waiting",
        "start_after",
        sqlite_where=sa.text("start_after IS NOT NULL"),
        postgresql_where=sa.text("start_after IS NOT NULL"),
    ),
    sa.Index(
        "cron_runs_claimed",
        "claimed_by",
        sqlite_where=sa.text("claimed_by IS NOT NULL"),
        postgresql_where=sa.text("claimed_by IS NOT NULL"),
    ),
    sa.Index(
        "cron_runs_open",
        "job_id",
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    ),
    sqlite_with_rowid=False,
)
"""One row a run, made in the transaction that advances the job past the tick. ``start_after``: from when on whoever has
room may claim it; an open run without it and without claim waits for the job's run before it. ``claimed_by`` and
``lease_until`` are as those of deliveries."""

emails = sa.Table(
    "emails",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("message_id", sa.Text, nullable=False),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("priority", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("result", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("service_id", sa.Text),
    sa.Column("response_time", sa.Integer, nullable=False),
    sa.Column("job_id", sa.Text),
    sa.Column("recorded_at", _Instant, nullable=False),
    sa.Index("emails_message", "message_id", "id"),
    sa.Index("emails_organization", "organization_id", "id"),
    sa.Index(
        "emails_failed",
        "id",
        sqlite_where=sa.text("status = 'failed'"),
        postgresql_where=sa.text("status = 'failed'"),
    ),
    sqlite_with_rowid=False,
)
"""What became of e-mails that were to be processed, one row each time. ``status``: succeeded or failed; ``result`` is
the worker's, as JSON; ``job_id``: the bulk job that it was part of."""

bulk_jobs = sa.Table(
    "bulk_jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("priority", sa.Text, nullable=False),
    sa.Column("metadata", sa.Text),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("done", sa.Integer, nullable=False, server_default="0"),
    sa.Column("successful", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failed", sa.Integer, nullable=False, server_default="0"),
    sa.Column("is_canceled", sa.Boolean, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("created_at", _Instant, nullable=False),
    sa.Column("started_at", _Instant),
    sa.Column("finished_at", _Instant),
    sa.Column("start_after", _Instant),
    sa.Column("claimed_by", sa.Text),
    sa.Column("lease_until", _Instant),
    sa.Index(
        "bulk_jobs_waiting",
        "start_after",
        sqlite_where=sa.text("start_after IS NOT NULL"),
        postgresql_where=sa.text("start_after IS NOT NULL"),
    ),
    sa.Index(
        "bulk_jobs_claimed",
        "claimed_by",
        sqlite_where=sa.text("claimed_by IS NOT NULL"),
        postgresql_where=sa.text("claimed_by IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)
"""Bulk jobs that go on after their 202. ``status``: queued, running, succeeded, partial, failed, canceled;
``is_canceled``: somebody asked for its end; ``start_after``, ``claimed_by`` and ``lease_until`` as those of
runs."""

bulk_items = sa.Table(
    "bulk_items",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("message_id", sa.Text, nullable=False),
    sa.Column("email_id", sa.Text),
    sqlite_with_rowid=False,
)
"""The e-mails of a bulk job in the order asked; ``email_id``: the row that tells what became of it, if it did."""
