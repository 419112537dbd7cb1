"""What is found out waits for the store: which word counts, and what becomes of it when the store refuses."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.core.errors import StoreUnavailableError
from econeura_daemon.registry.settler import BATCH, Settler
from tests.support.clocks import TrioClock


class Book:
    """Notes what it is told to write."""

    def __init__(self):
        self.told = []

    def set_health(self, _connection, key, generation, changes, _now):
        self.told.append((key, generation, dict(changes)))

    def remove_unhealthy(self, _connection, key, generation, reason, _now):
        self.told.append((key, generation, reason))


class Held:
    """A store in which one work waits until the test lets it go on, or refuses it."""

    def __init__(self):
        self.going_on = trio.Event()
        self.refuses = True
        self.works = 0

    async def transact(self, work):
        await self.going_on.wait()
        if self.refuses:
            raise StoreUnavailableError("gone")
        self.works += 1
        work(None)


@pytest.fixture
def book():
    return Book()


@pytest.fixture
async def store():
    return Held()


@pytest.fixture
async def settler(book, store):
    return Settler(store, book, TrioClock())


async def test_what_the_store_refused_is_written_later_with_the_later_word_on_the_same_thing(
    settler, store, book
):
    settler.want("a", 1, expired=True, verdict="healthy")
    settler.want_removed("a", 1, "for too long")
    settler.want("b", 1, expired=True)
    settled = []

    async def settle():
        settled.append(await settler.settle())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(settle)
        await wait_all_tasks_blocked()
        settler.want("a", 1, expired=False)
        settler.want("b", 2, stale=True)
        store.going_on.set()
    assert (settled, book.told) == ([False], [])
    store.refuses = False
    assert await settler.settle()
    assert book.told == [
        ("a", 1, {"expired": False, "verdict": "healthy"}),
        ("a", 1, "for too long"),
        ("b", 2, {"stale": True}),
    ]


async def test_a_cancelled_write_is_made_by_whoever_settles_next(settler, store, book):
    settler.want("a", 1, expired=True)
    with trio.move_on_after(0):
        await settler.settle()
    store.refuses = False
    store.going_on.set()
    assert await settler.settle()
    assert book.told == [("a", 1, {"expired": True})]


async def test_a_word_about_an_earlier_registration_neither_replaces_nor_joins_one_about_a_later(
    settler, store, book
):
    settler.want("a", 1, expired=True)
    settler.want("a", 2, verdict="unhealthy")
    settler.want("a", 1, stale=True)
    settler.want_removed("a", 1, "late")
    store.refuses = False
    store.going_on.set()
    assert await settler.settle()
    assert book.told == [("a", 2, {"verdict": "unhealthy"})]


async def test_many_are_written_in_works_of_a_bounded_size(settler, store, book):
    for number in range(2 * BATCH + 1):
        settler.want(str(number), 1, expired=True)
    store.refuses = False
    store.going_on.set()
    assert await settler.settle()
    assert (store.works, len(book.told), settler.waiting) == (3, 2 * BATCH + 1, 0)
