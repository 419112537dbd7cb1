"""How the database goes about the statements whose cost must not grow with what is kept: by which index.

A condition that is written a little differently from a partial index's own is a scan of everything, and looks
just the same in every test of results.
"""

import pytest
import sqlalchemy as sa

from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.store import queries, recovery, statements, subscriptions
from tests.support.inline_store import open_inline_store

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
}


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
    assert "SCAN deliveries" not in steps, steps


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


class Nothing(list):
    rowcount = 0

    def scalars(self):
        return self

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
}


@pytest.mark.parametrize("name", COLD)
async def test_a_look_that_is_taken_often_goes_by_an_index(plan, name):
    function, arguments, index = COLD[name]
    spy = Spy()
    function(spy, **arguments)
    plans = [await plan(text) for text in spy.texts]
    assert any(index in steps for steps in plans), plans
    assert not any(line == "SCAN deliveries" for steps in plans for line in steps.splitlines()), plans
