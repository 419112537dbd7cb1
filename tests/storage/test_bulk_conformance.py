"""What the store promises bulk jobs, on both databases: one claim, each chunk once, nothing lost with its daemon."""

from functools import partial

import pytest

from econeura_daemon.storage.model import Claimant
from econeura_daemon.workers.model import BulkJob, Email, EmailStatus, JobStatus, Priority
from econeura_daemon.workers.store import bulk_jobs as sql

IDS = [f"<{n}@x>" for n in range(120)]


def claimant(store, daemon="dmn_1", run="run_1", lease_ms=60_000):
    return Claimant(daemon, run, None if store.statistics().backend == "sqlite" else lease_ms)


def job(number=1, organization="acme"):
    return BulkJob(
        id=f"blk_{number}",
        organization_id=organization,
        priority=Priority.LOW,
        total=len(IDS),
        created_at=number,
    )


def emails(number, *, good=True):
    chunk = IDS[number * 50 : number * 50 + 50]
    status = EmailStatus.SUCCEEDED if good else EmailStatus.FAILED
    return [
        Email(
            id=f"eml_{number}_{place:03}",
            message_id=one,
            organization_id="acme",
            priority=Priority.LOW,
            status=status,
            result={} if good else None,
            error=None if good else "no",
            job_id="blk_1",
            recorded_at=1,
        )
        for place, one in enumerate(chunk)
    ]


@pytest.fixture
async def store(database):
    async with database.open() as opened:
        for number in (1, 2):
            await opened.transact(partial(sql.insert, job=job(number), message_ids=IDS))
        yield opened


async def claim(store, me, most=9, of_one=9):
    return [
        one.id
        for one in await store.transact(partial(sql.claim, claimant=me, now=5, most=most, of_one=of_one))
    ]


async def test_a_job_is_claimed_once_the_oldest_first(store):
    me, other = claimant(store), claimant(store, "dmn_2")
    assert await claim(store, me, most=1) == ["blk_1"]
    assert await claim(store, other) == ["blk_2"]
    assert await claim(store, me) == []
    found = await store.read(partial(sql.get, job_id="blk_1"))
    assert (found.status, found.started_at) == (JobStatus.RUNNING, 5)


async def test_organizations_take_turns_and_none_has_more_than_its_share(store):
    me, other = claimant(store), claimant(store, "dmn_2")
    for number, organization in ((3, "acme"), (4, "zeta"), (5, "zeta"), (6, "beta")):
        added = partial(sql.insert, job=job(number, organization), message_ids=IDS[:1])
        await store.transact(added)
    assert await claim(store, me, most=3, of_one=2) == ["blk_1", "blk_4", "blk_6"]
    assert await claim(store, me, of_one=2) == ["blk_2", "blk_5"]
    assert await claim(store, me, of_one=2) == [], "two of acme's are under way"
    assert await claim(store, other, of_one=2) == ["blk_3"], "here, not everywhere"
    await store.transact(partial(sql.give_back, job_ids=["blk_3"], claimant=other))
    await store.transact(lambda connection: sql.finish(connection, job(1), 9))
    assert await claim(store, me, of_one=2) == ["blk_3"]


async def test_a_chunk_is_recorded_whole_and_only_while_the_claim_holds(store):
    me, other = claimant(store), claimant(store, "dmn_2")
    await claim(store, me)
    record = partial(sql.record, job_id="blk_1", number=1)
    assert await store.transact(partial(record, claimant=other, emails=emails(1))) is None
    found = await store.transact(partial(record, claimant=me, emails=emails(1, good=False)))
    assert (found.done, found.successful, found.failed) == (50, 0, 50)
    left = await store.read(partial(sql.open_chunks, job_id="blk_1"))
    assert left == [(0, tuple(IDS[:50])), (2, tuple(IDS[100:]))]
    placed = await store.read(partial(sql.results, job_id="blk_1", after=60, limit=2))
    assert [(one.place, one.item.message_id, one.item.error) for one in placed] == [
        (61, IDS[61], "no"),
        (62, IDS[62], "no"),
    ]


async def test_what_died_with_its_daemon_is_free_again(store):
    before = claimant(store, run="run_0")
    await claim(store, before)
    assert sorted(await store.transact(partial(sql.recover, claimant=claimant(store)))) == ["blk_1", "blk_2"]
    assert await claim(store, claimant(store)) == ["blk_1", "blk_2"]
    assert await store.transact(partial(sql.recover, claimant=claimant(store, "dmn_2"))) == []


async def test_a_lease_that_lapsed_frees_a_job_and_a_renewed_one_does_not(database):
    async with database.open() as store:
        if store.statistics().backend == "sqlite":
            return  # a start of the one daemon tells
        await store.transact(partial(sql.insert, job=job(), message_ids=IDS))
        me, other = claimant(store, lease_ms=0), claimant(store, "dmn_2")
        await claim(store, me)
        renewing = claimant(store)
        await store.transact(partial(sql.renew, held=["blk_1"], claimant=renewing))
        assert await store.transact(partial(sql.recover, claimant=other)) == []
        await store.transact(partial(sql.renew, held=["blk_1"], claimant=me))
        assert await store.transact(partial(sql.recover, claimant=other)) == ["blk_1"]


async def test_cancelling_tells_whether_somebody_works_on_it(store):
    me = claimant(store)
    await claim(store, me, most=1)
    found, is_idle = await store.transact(partial(sql.cancel, job_id="blk_1"))
    assert (found.is_canceled, is_idle) == (True, False)
    _, is_idle = await store.transact(partial(sql.cancel, job_id="blk_2"))
    assert is_idle
    assert await store.transact(partial(sql.cancel, job_id="blk_9")) is None


async def test_ended_jobs_are_forgotten_with_their_items_and_others_are_not(store):
    await store.transact(lambda connection: sql.finish(connection, job(1), 9))
    assert await store.transact(partial(sql.forget, before="blk_9", most=10)) == 1
    assert await store.read(partial(sql.get, job_id="blk_1")) is None
    assert await store.read(partial(sql.open_chunks, job_id="blk_1")) == []
    assert len(await store.read(partial(sql.open_chunks, job_id="blk_2"))) == 3
