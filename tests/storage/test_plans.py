"""How the database goes about the statements whose cost must not grow with what is kept: by which index.

A condition that is written a little differently from a partial index's own is a scan of everything, and looks
just the same in every test of results.
"""

import re

import pytest
import sqlalchemy as sa

from econeura_daemon.cron.store import jobs as cron_jobs
from econeura_daemon.cron.store import runs as cron_runs
from econeura_daemon.cron.store import statements as cron
from econeura_daemon.cron.store import ticks as cron_ticks
from econeura_daemon.events import store as events
from econeura_daemon.storage import idempotency
from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.store import queries, recovery, retention, statements, subscriptions
from econeura_daemon.workers.model import EmailStatus
from econeura_daemon.workers.store import bulk_jobs, emails
from tests.support.inline_store import open_inline_store

FAILED = EmailStatus.FAILED
ME = Claimant("dmn_1", "run_1", None)

HOT = {
    "CLAIM": (statements.CLAIM, "deliveries_due"),
    "NEXT_DUE": (statements.NEXT_DUE, "deliveries_due"),
    "FINISH_DELIVERY": (statements.FINISH_DELIVERY, "PRIMARY KEY"),
    "GIVE_BACK": (statements.GIVE_BACK, "PRIMARY KEY"),
    "RENEW": (statements.RENEW, "PRIMARY KEY"),
    "FINISH_ATTEMPT": (statements.FINISH_ATTEMPT, "PRIMARY KEY"),
    "TAKERS": (subscriptions.TAKERS, "PRIMARY KEY (pattern=?)"),
    "EVENT": (statements.EVENT, "sqlite_autoindex_events_1"),
    "cron DUE": (cron.DUE, "cron_jobs_due (due_at<?)"),
    "cron NEXT_DUE": (cron.NEXT_DUE, "cron_jobs_due"),
    "cron ADVANCE": (cron.ADVANCE, "PRIMARY KEY"),
    "cron COUNT_END": (cron.COUNT_END, "PRIMARY KEY"),
    "cron COUNT_LATE": (cron.COUNT_LATE, "PRIMARY KEY"),
    "cron CLAIM": (cron.CLAIM, "cron_runs_waiting (start_after<?)"),
    "cron NEXT_WAITING": (cron.NEXT_WAITING, "cron_runs_waiting"),
    "cron FINISH": (cron.FINISH, "PRIMARY KEY"),
    "cron GIVE_BACK": (cron.GIVE_BACK, "PRIMARY KEY"),
    "cron RENEW": (cron.RENEW, "PRIMARY KEY"),
    "cron RELEASE_NEXT": (cron.RELEASE_NEXT, "cron_runs_open (job_id=?)"),
    "cron TRIM": (cron.TRIM, "cron_runs_job (job_id=? AND id<?)"),
}
SCAN = re.compile(
    r"SCAN (deliveries|attempts|events|idempotency_keys|cron_jobs|cron_runs|emails|bulk_jobs|bulk_items)"
    r"(?! USING (COVERING )?INDEX)"
)
"""Of a whole table; a walk along an index that ends with the first row is none."""


@pytest.fixture
async def plan():
    """Return what SQLite says of each statement that a work runs."""
    async with open_inline_store() as store:

        async def explained(text, parameters=()):
            def work(connection):
                found = connection.execute(sa.text(f"EXPLAIN QUERY PLAN {text}"), parameters or None)
                return "\n".join(row.detail for row in found)

            return await store.transact(work)

        yield explained


def numbered(text):
    """Turn the driver's ? into names that SQLAlchemy takes."""
    parts = text.split("?")
    return "".join(f"{part}:p{n}" for n, part in enumerate(parts[:-1])) + parts[-1], {
        f"p{n}": 0 for n in range(len(parts) - 1)
    }


@pytest.mark.parametrize("name", HOT)
async def test_a_hot_statement_goes_by_its_index_and_sorts_nothing(plan, name):
    hot, index = HOT[name]
    steps = await plan(*numbered(hot.compiled("sqlite").text))
    assert index in steps, steps
    assert "TEMP B-TREE" not in steps, steps
    assert not SCAN.search(steps), steps


class Spy:
    """Notes the text of what a function executes."""

    def __init__(self):
        self.texts = []

    def execute(self, statement, _parameters=None):
        from econeura_daemon.storage.dialect import compiler_dialect

        compiled = statement.compile(
            dialect=compiler_dialect("sqlite"), compile_kwargs={"literal_binds": True}
        )
        self.texts.append(str(compiled))
        return Nothing()

    def run(self, *_):
        pass

    lock = run


class Nothing(list):
    rowcount = 0

    def scalars(self):
        return self

    def first(self):
        return None

    def all(self):
        return self

    def one(self):
        raise StopAsyncIteration

    scalar_one = one


COLD = {
    "waiting_lanes": (recovery.waiting_lanes, {}, "deliveries_due"),
    "claimed": (recovery.claimed, {"claimant": ME}, "deliveries_claimed"),
    "recover": (recovery.recover, {"now": 0, "claimant": ME}, "deliveries_claimed"),
    "cancel_some": (
        recovery.cancel_some,
        {"subscription_id": "s", "most": 9, "claimant": ME},
        "deliveries_due",
    ),
    "deleted_with_rest": (recovery.deleted_with_rest, {}, "deliveries_due"),
    "page of a subscription": (
        queries.page,
        dict.fromkeys(("status", "event_id", "event_type", "since", "before"))
        | {"subscription_id": "s", "limit": 9},
        "deliveries_subscription",
    ),
    "page of an event": (
        queries.page,
        dict.fromkeys(("status", "subscription_id", "event_type", "since", "before"))
        | {"event_id": "e", "limit": 9},
        "deliveries_event",
    ),
    "cron open runs of jobs": (cron_ticks._open_runs, {"job_ids": ["j", "k"]}, "cron_runs_open"),
    "cron whether a run is open": (cron_runs.has_open, {"job_id": "j"}, "cron_runs_open"),
    "cron page of a job's runs": (
        cron_runs.page,
        {"job_id": "j", "status": None, "before": "r", "limit": 9},
        "cron_runs_job (job_id=? AND id<?)",
    ),
    "cron claimed_by": (cron_runs.claimed_by, {"claimant": ME}, "cron_runs_claimed"),
    "cron page of jobs": (cron_jobs.page, {"after": "j", "limit": 9}, "PRIMARY KEY (id>?)"),
    "cron names of jobs": (cron_jobs.names, {"job_ids": ["j", "k"]}, "PRIMARY KEY (id=?)"),
    "page of an organization's e-mails": (
        emails.page,
        {"organization_id": "o", "before": "e", "limit": 9},
        "emails_organization (organization_id=? AND id<?)",
    ),
    "page of e-mails that failed": (emails.page, {"status": FAILED, "limit": 9}, "emails_failed"),
    "forget e-mails": (emails.forget, {"before": "e", "most": 9}, "PRIMARY KEY (id<?)"),
    "old events": (
        events.old,
        {"after": 1, "before": 9, "now": 9},
        "INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    ),
    "whether an old event is owed": (
        events.old,
        {"after": 1, "before": 9, "now": 9},
        "deliveries_event (event_id=?)",
    ),
    "forget events": (events.forget, {"cursors": [1, 2]}, "INTEGER PRIMARY KEY (rowid=?)"),
    "old attempts": (
        retention.old_attempts,
        {"after": ("d", 1), "deliveries_before": "e", "before": 9},
        "PRIMARY KEY ((delivery_id,number)>(?,?) AND delivery_id<?)",
    ),
    "old deliveries": (
        retention.old_deliveries,
        {"after": "d", "before": "e"},
        "PRIMARY KEY (id>? AND id<?)",
    ),
    "forget deliveries": (retention.forget_deliveries, {"ids": ["d", "e"]}, "PRIMARY KEY (id=?)"),
    "forget the attempts of deliveries": (
        retention.forget_deliveries,
        {"ids": ["d", "e"]},
        "PRIMARY KEY (delivery_id=?)",
    ),
    "old subscriptions": (
        retention.old_subscriptions,
        {"after": "s", "before": 9},
        "deliveries_subscription (subscription_id=?)",
    ),
    "forget subscriptions": (
        retention.forget_subscriptions,
        {"ids": ["s", "t"]},
        "deliveries_subscription (subscription_id=?)",
    ),
    "forget answers": (
        idempotency.forget_old,
        {"since": 9, "limit": 9},
        "idempotency_keys_age (created_at<?)",
    ),
    "open chunks of a bulk job": (
        bulk_jobs.open_chunks,
        {"job_id": "j"},
        "bulk_items USING PRIMARY KEY (job_id=?)",
    ),
    "claim a bulk job": (
        bulk_jobs.claim,
        {"claimant": ME, "now": 0, "most": 9, "of_one": 2},
        "bulk_jobs_waiting",
    ),
    "bulk jobs of this daemon": (bulk_jobs.claimed_by, {"claimant": ME}, "bulk_jobs_claimed"),
    "bulk jobs of dead daemons": (bulk_jobs.recover, {"claimant": ME}, "bulk_jobs_claimed"),
    "cron forget": (cron_runs.forget, {"before": "r", "most": 9}, "PRIMARY KEY (id<?)"),
}


@pytest.mark.parametrize("name", COLD)
async def test_a_look_that_is_taken_often_goes_by_an_index(plan, name):
    function, arguments, index = COLD[name]
    spy = Spy()
    function(spy, **arguments)
    plans = [await plan(text) for text in spy.texts]
    assert any(index in steps for steps in plans), plans
    assert not any(SCAN.search(steps) for steps in plans), plans
