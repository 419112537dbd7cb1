"""What the integration with workers keeps, held against both databases."""

from functools import partial

import pytest

from econeura_daemon.workers.model import Email, EmailStatus, Priority
from econeura_daemon.workers.store import emails as sql


def email(number, **more):
    said = {
        "id": f"eml_{number:04}",
        "message_id": f"<{number % 3}@example.org>",
        "organization_id": f"org-{number % 2}",
        "priority": Priority.NORMAL,
        "status": EmailStatus.SUCCEEDED,
        "result": {"processed": True, "note": "caf\u00e9 \x00 \u20ac", "confidence": 0.5},
        "service_id": "w-1",
        "response_time": 12,
        "recorded_at": 1_000 + number,
    }
    return Email(**{**said, **more})


FAILED = {"status": EmailStatus.FAILED, "result": None, "error": "no such mail", "service_id": None}


@pytest.fixture
async def store(database):
    async with database.open() as opened:
        kept = [email(n) if n % 5 else email(n, **FAILED) for n in range(30)]
        await opened.transact(partial(sql.insert, emails=kept))
        yield opened


async def read(store, **asked):
    found = await store.read(partial(sql.page, limit=100, **asked))
    return [int(one.id[4:]) for one in found]


async def test_what_became_of_an_email_is_read_as_it_was_written(store):
    newest, *_ = await store.read(partial(sql.page, limit=1))
    assert newest == email(29)
    [failed] = await store.read(partial(sql.page, status=EmailStatus.FAILED, limit=1))
    assert failed == email(25, **FAILED)


async def test_what_workers_say_of_a_failure_is_kept_though_there_is_a_nul_in_it(store):
    await store.transact(partial(sql.insert, emails=[email(30, **{**FAILED, "error": "a\0b"})]))
    newest, *_ = await store.read(partial(sql.page, limit=1))
    assert newest.error == "a\ufffdb"


async def test_filters_are_joined_and_pages_follow_each_other(store):
    assert await read(store) == list(range(29, -1, -1))
    assert await read(store, status=EmailStatus.FAILED) == [25, 20, 15, 10, 5, 0]
    assert await read(store, organization_id="org-1", before="eml_0006") == [5, 3, 1]
    assert await read(store, message_id="<0@example.org>", organization_id="org-1", before="eml_0010") == [
        9,
        3,
    ]
    both = {"status": EmailStatus.FAILED, "organization_id": "org-0", "message_id": "<1@example.org>"}
    assert await read(store, **both) == [10]
    assert await read(store, message_id="<none@example.org>") == []


async def test_the_oldest_are_forgotten_first_and_so_many_at_once(store):
    assert await store.transact(partial(sql.forget, before="eml_0008", most=5)) == 5
    assert min(await read(store)) == 5
    assert await store.transact(partial(sql.forget, before="eml_0008", most=5)) == 3
    assert await store.transact(partial(sql.forget, before="eml_0008", most=5)) == 0
    assert min(await read(store)) == 8


async def test_ends_are_counted_since_an_id(store):
    assert await store.read(partial(sql.counts, since="eml_0020")) == {"succeeded": 8, "failed": 2}
