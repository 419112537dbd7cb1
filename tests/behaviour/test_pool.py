"""Who gets a connection, in which order, and what is kept."""

import httpx
import pytest
import trio
import trio.testing

from econeura_daemon.wire.pool import Limits, Pool


class Line:
    """What a pool keeps, without a socket."""

    def __init__(self, name, *, quiet=True):
        self.name, self.quiet, self.closed, self.idle_since = name, quiet, False, 0.0

    def is_quiet(self):
        return self.quiet

    def close(self):
        self.closed = True


async def test_slots_are_given_in_the_order_in_which_they_were_asked_for():
    pool, order = Pool(Limits(per_host=2, in_all=100)), []
    held = [await pool.enter(("a",)) for _ in range(2)]

    async def ask(number):
        await pool.enter(("a",))
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked()
        assert (pool.busy, pool.waiting) == (2, 10)
        for number in range(10):
            pool.leave(held[0])
            await trio.testing.wait_all_tasks_blocked()
            assert order[-1] == number
    for _ in range(2):
        pool.leave(held[0])
    assert order == list(range(10))
    assert (pool.busy, pool.waiting, pool.hosts) == (0, 0, 0)


async def test_a_host_that_is_full_holds_up_no_other(autojump_clock):
    pool = Pool(Limits(per_host=1, in_all=2))
    first = await pool.enter(("slow",))
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(pool.enter, ("slow",), 5)
        await trio.testing.wait_all_tasks_blocked()
        other = await pool.enter(("quick",), 0)
        pool.leave(other)
        nursery.cancel_scope.cancel()
    pool.leave(first)
    assert (pool.busy, pool.waiting, pool.hosts) == (0, 0, 0)


async def test_waiting_is_bounded_in_number_and_in_time(autojump_clock):
    pool = Pool(Limits(per_host=1, in_all=1, waiting=1))
    host = await pool.enter(("a",))
    async with trio.open_nursery() as nursery:

        async def wait():
            with pytest.raises(httpx.PoolTimeout, match="within 5000 ms"):
                await pool.enter(("b",), 5)

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        for key in (("a",), ("b",), ("c",)):
            with pytest.raises(httpx.PoolTimeout, match="1 requests wait"):
                await pool.enter(key, 5)
    pool.leave(host)
    assert (pool.busy, pool.waiting, pool.hosts) == (0, 0, 0)


@pytest.mark.parametrize("in_all", [1, 5])
async def test_who_leaves_the_queue_takes_no_slot_along(in_all):
    pool = Pool(Limits(per_host=1, in_all=in_all))
    host = await pool.enter(("a",))
    async with trio.open_nursery() as nursery:
        scopes = []

        async def wait(key):
            with trio.CancelScope() as scope:
                scopes.append(scope)
                pool.leave(await pool.enter(key))

        for number in range(4):
            nursery.start_soon(wait, ("a",) if in_all > 1 else (number,))
        await trio.testing.wait_all_tasks_blocked()
        scopes[1].cancel()
        scopes[2].cancel()
        pool.leave(host)
    assert (pool.busy, pool.waiting, pool.hosts) == (0, 0, 0)


async def test_the_connection_used_last_is_used_first_and_the_dead_are_closed():
    pool = Pool()
    a, b, dead = Line("a"), Line("b"), Line("dead", quiet=False)
    for line in (a, b, dead):
        pool.keep(await pool.enter(("h",)), line)
    host = await pool.enter(("h",))
    assert pool.take(host) is b
    assert dead.closed
    assert pool.take(host) is a
    assert pool.take(host) is None
    assert pool.idle == 0
    pool.leave(host)


async def test_what_is_idle_expires_in_the_order_in_which_it_became_so(autojump_clock):
    pool, lines = Pool(), [Line(n) for n in range(6)]
    start = trio.current_time()
    for number, line in enumerate(lines):
        pool.keep(await pool.enter((number % 2,)), line)
        await trio.sleep(1)
    pool.expire(start + 2)
    assert [line.closed for line in lines] == [True, True, True, False, False, False]
    host = await pool.enter((1,))
    taken = pool.take(host)
    pool.keep(host, taken)
    pool.expire(start + 5)
    assert [line.name for line in lines if not line.closed] == [taken.name]
    pool.close()
    assert (pool.idle, pool.hosts) == (0, 0)


async def test_what_is_kept_is_bounded_for_a_host_and_in_all():
    pool = Pool(Limits(idle_per_host=2, idle_in_all=3))
    lines = [Line(n) for n in range(5)]
    hosts = [await pool.enter((key,)) for key in ("a", "a", "a", "b", "b")]
    for host, line in zip(hosts, lines, strict=True):
        pool.keep(host, line)
    assert [line.closed for line in lines] == [True, False, True, False, False]
    assert pool.idle == 3


async def test_a_trust_class_that_is_no_more_is_let_go():
    pool, old, new = Pool(), object(), object()
    kept, late, other = Line("kept"), Line("late"), Line("other")
    under_way = await pool.enter(("a", old))
    pool.keep(await pool.enter(("a", old)), kept)
    pool.keep(await pool.enter(("a", new)), other)
    pool.disown(old)
    assert (kept.closed, other.closed, pool.idle) == (True, False, 1)
    pool.keep(under_way, late)
    assert late.closed
    assert pool.busy == 0


async def test_after_the_end_nothing_is_kept():
    pool, line = Pool(), Line("a")
    host = await pool.enter(("a",))
    pool.close()
    pool.keep(host, line)
    assert line.closed
    assert (pool.busy, pool.hosts) == (0, 0)
