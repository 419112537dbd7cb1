"""What cron's store promises, held against both databases: one run a tick, one claim a run, one end."""

from contextlib import asynccontextmanager
from functools import partial
from random import Random

import attrs
import pytest
import sqlalchemy as sa
import trio

from econeura_daemon.core.clock import SystemClock, to_ms
from econeura_daemon.core.jobs import ActionBody, ActionKind, JobBody, Overlap
from econeura_daemon.cron.jobs import new_job
from econeura_daemon.cron.model import Outcome, RunStatus
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.store import jobs as jobs_sql
from econeura_daemon.cron.store import runs as sql
from econeura_daemon.cron.store.looks import Taking
from econeura_daemon.cron.store.runs import Ended
from econeura_daemon.cron.store.ticks import Taker
from econeura_daemon.events import EventLog
from econeura_daemon.storage.model import Claimant

CALL = ActionBody(kind=ActionKind.REQUEST, service="workers", method="POST", path="/")
PUBLISH = ActionBody(kind=ActionKind.EVENT, type="clock.ticked", data={})
GOOD = Outcome(status=RunStatus.SUCCEEDED, output="done")


def body(action=CALL, **more):
    return JobBody(name="x", schedule="* * * * * *", action=action, **more)


@attrs.define
class One:
    """A daemon, as the store sees it."""

    store: object
    claimant: Claimant
    taker: Taker
    reports: Reports
    rng: Random
    watch: object = None

    async def look(self, room=100, batch=200):
        asked = Taking(
            claimant=self.claimant,
            now=to_ms(SystemClock().now()),
            monotonic_ms=trio.current_time() * 1000,
            watch=self.watch,
            room=room,
            batch=batch,
            keep_runs=1000,
        )
        look = await self.store.transact(lambda connection: self.taker.look(connection, asked))
        self.watch = look.watch
        return look

    async def end(self, claimed, outcome=GOOD):
        ended = [Ended(one, outcome, to_ms(SystemClock().now())) for one in claimed]
        await self.store.transact(
            lambda connection: sql.record(connection, ended, self.reports, self.claimant, self.rng)
        )

    async def recover(self):
        now = to_ms(SystemClock().now())
        work = partial(sql.recover, now=now, reports=self.reports, claimant=self.claimant)
        return await self.store.transact(work)


def one_daemon(store, daemon_id="dmn_1", run_id="run_1", lease_ms=60_000):
    rng = Random(f"{daemon_id}{run_id}")
    reports = Reports(EventLog(store), rng)
    is_shared = store.statistics().backend != "sqlite"
    claimant = Claimant(daemon_id, run_id, lease_ms if is_shared else None)
    return One(store, claimant, Taker(reports, rng), reports, rng)


@asynccontextmanager
async def two_daemons(database):
    """Open two daemons of one store; on SQLite they are one after the other in one process."""
    async with database.open() as first:
        if database.backend == "sqlite":
            yield one_daemon(first), one_daemon(first, "dmn_2")
            return
        async with database.open() as second:
            yield one_daemon(first), one_daemon(second, "dmn_2")


async def put(store, count, job_body, ago=3.0):
    """Write jobs that are due since ``ago`` seconds."""
    since = to_ms(SystemClock().now()) - int(ago * 1000)
    jobs = [new_job(f"job-{n:04}", job_body, since) for n in range(count)]
    await store.transact(lambda connection: jobs_sql.insert(connection, jobs))


async def all_runs(store):
    query = sa.text("SELECT job_id, scheduled_for, status, attempt FROM cron_runs ORDER BY 1, 2")
    return await store.read(lambda connection: [tuple(row) for row in connection.execute(query)])


async def events(store):
    query = sa.text("SELECT type, count(*) FROM events GROUP BY type")
    return await store.read(lambda connection: dict(tuple(row) for row in connection.execute(query)))


async def look_until_nothing_is_due(daemon, **more):
    looks = []
    while True:
        look = await daemon.look(**more)
        looks.append(look)
        if look.next_at is None or look.next_at > look.now:
            return looks


async def test_daemons_that_look_at_once_take_each_tick_once_between_them(database):
    async with two_daemons(database) as daemons:
        await put(daemons[0].store, 300, body(PUBLISH))
        async with trio.open_nursery() as nursery:
            for daemon in daemons:
                nursery.start_soon(partial(look_until_nothing_is_due, daemon, batch=20))
        runs = await all_runs(daemons[0].store)
        ticks = [run[:2] for run in runs]
        assert len(set(ticks)) == len(ticks)
        for job_id in {run[0] for run in runs}:
            of_job = sorted(tick for one, tick in ticks if one == job_id)
            assert of_job == list(range(of_job[0], of_job[-1] + 1, 1000))
        succeeded = sum(run[2] == "succeeded" for run in runs)
        counted = await events(daemons[0].store)
        assert counted["clock.ticked"] == counted["cron.run_succeeded"] == succeeded >= 300


async def test_a_run_that_two_believe_in_is_ended_by_the_one_that_holds_it(database):
    async with two_daemons(database) as (first, second):
        await put(first.store, 1, body())
        (claimed,) = (await first.look()).begun
        await second.end([claimed])
        assert (await all_runs(first.store))[-1][2] == "running"
        await first.end([claimed])
        await first.end([claimed])
        assert (await all_runs(first.store))[-1][2] == "succeeded"
        job = await first.store.read(lambda connection: jobs_sql.get(connection, "job-0000"))
        assert job.run_count == 1
        assert (await events(first.store))["cron.run_succeeded"] == 1


async def test_what_finds_no_room_is_queued_and_any_daemon_takes_it(database):
    async with two_daemons(database) as (first, second):
        await put(first.store, 10, body())
        begun = (await first.look(room=3)).begun
        assert len(begun) == 3
        taken = (await second.look(room=5)).begun
        rest = (await second.look(room=50)).begun
        assert len({one.run.id for one in (*begun, *taken)}) == 8
        assert {one.run.id for one in rest}.isdisjoint(one.run.id for one in (*begun, *taken))


async def test_a_failed_attempt_is_queued_for_later_and_counts_when_retries_are_spent(database):
    bad = Outcome(status=RunStatus.FAILED, error="answered 500")
    async with database.open() as store:
        daemon = one_daemon(store)
        await put(store, 1, body(retries=1))
        (claimed,) = (await daemon.look()).begun
        await daemon.end([claimed], bad)
        assert [run for run in await all_runs(store) if run[2] == "queued"]
        assert "cron.run_failed" not in await events(store)
        make_due = sa.text("UPDATE cron_runs SET start_after = 0 WHERE start_after IS NOT NULL")
        await store.transact(lambda connection: connection.execute(make_due) and None)
        again = [one for one in (await daemon.look()).begun if one.run.id == claimed.run.id]
        assert [one.run.attempt for one in again] == [2]
        assert again[0].idempotency_key == claimed.idempotency_key
        await daemon.end(again, bad)
        assert (await events(store))["cron.run_failed"] == 1


@pytest.mark.parametrize(("retries", "status"), [(0, "unknown"), (1, "unknown")])
async def test_the_claims_of_an_earlier_run_of_the_daemon_are_freed(database, retries, status):
    async with database.open() as store:
        await put(store, 2, body(retries=retries))
        begun = (await one_daemon(store).look()).begun
        assert len(begun) == 2
        later = one_daemon(store, run_id="run_2")
        assert sorted(await later.recover()) == sorted(one.run.id for one in begun)
        assert await later.recover() == []
        found = [run for run in await all_runs(store) if run[2] not in {"missed", "skipped"}]
        assert [run[2] for run in found] == [status] * 2
        ended = (await events(store)).get("cron.run_failed", 0)
        assert ended == (0 if retries else 2)
        again = {one.run.id: one.run.attempt for one in (await later.look()).begun}
        for one in begun:
            assert again.get(one.run.id) == (2 if retries else None)
        await one_daemon(store).end(begun)  # it came back from the dead: its claim does not hold any more
        assert sum(run[2] == "succeeded" for run in await all_runs(store)) == 0


async def test_a_claim_of_another_daemon_is_freed_once_its_lease_lapsed(postgres_database):
    async with two_daemons(postgres_database) as (first, second):
        await put(first.store, 1, body(retries=1))
        first.claimant = attrs.evolve(first.claimant, lease_ms=400)
        (claimed,) = (await first.look()).begun
        assert await second.recover() == []
        await trio.sleep(0.3)
        await first.store.transact(partial(sql.renew, held=[claimed], claimant=first.claimant))
        await trio.sleep(0.3)
        assert await second.recover() == []
        await trio.sleep(0.2)
        assert await second.recover() == [claimed.run.id]


async def test_a_run_that_waits_for_another_goes_when_that_one_ends(database):
    async with database.open() as store:
        daemon = one_daemon(store)
        await put(store, 1, body(overlap=Overlap.QUEUE))
        (claimed,) = (await daemon.look()).begun
        await trio.sleep(1.1)
        assert (await daemon.look()).begun == []
        await daemon.end([claimed])
        (waited,) = (await daemon.look()).begun
        assert waited.run.scheduled_for > claimed.run.scheduled_for


async def test_what_a_drain_cut_off_is_given_back_without_a_trace(database):
    async with database.open() as store:
        daemon = one_daemon(store)
        await put(store, 1, body(retries=0, overlap=Overlap.ALLOW))
        begun = (await daemon.look()).begun
        now = to_ms(SystemClock().now())
        await store.transact(partial(sql.give_back, claimed=begun, now=now, claimant=daemon.claimant))
        other = one_daemon(store, "dmn_2")
        taken = [one for one in (await other.look()).begun if one.run.id == begun[0].run.id]
        assert [one.run.attempt for one in taken] == [1]


async def test_instants_of_a_shared_store_are_the_databases(postgres_database):
    async with postgres_database.open() as store:
        daemon = one_daemon(store)
        wrong = Taking(
            claimant=daemon.claimant, now=0, monotonic_ms=0, watch=None, room=1, batch=1, keep_runs=1
        )
        look = await store.transact(lambda connection: daemon.taker.look(connection, wrong))
        assert abs(look.now - to_ms(SystemClock().now())) < 5000
