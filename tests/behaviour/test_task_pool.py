"""Tasks that are used again: nothing that was handed over is lost, whatever ends in between."""

from collections import Counter
from random import Random

import pytest
import trio

from econeura_daemon.webhooks.task_pool import MAX_IDLE, TaskPool


async def test_a_task_that_is_through_takes_the_next_item(autojump_clock):
    tasks = []

    async def run(_item):
        tasks.append(trio.lowlevel.current_task())
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        pool = TaskPool(nursery, run)
        for together in (2, 1, 2, 3):
            for item in range(together):
                pool.start(item)
            await trio.sleep(2)
        pool.retire()
    assert len(tasks) == 8
    assert len(set(tasks)) == 3


async def test_no_more_than_a_bound_of_tasks_wait(autojump_clock):
    async def run(_item):
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        pool = TaskPool(nursery, run)
        for item in range(MAX_IDLE + 10):
            pool.start(item)
        await trio.sleep(2)
        assert pool.idle == len(nursery.child_tasks) == MAX_IDLE
        pool.retire()


async def test_what_is_started_in_the_pass_of_the_retiring_or_later_is_run(autojump_clock):
    ran = []

    async def run(item):
        await trio.sleep(1)
        ran.append(item)

    async with trio.open_nursery() as nursery:
        pool = TaskPool(nursery, run)
        for item in range(3):
            pool.start(item)
        await trio.sleep(2)
        pool.start(3)
        pool.retire()
        pool.start(4)
        await trio.sleep(0.5)
        pool.start(5)
    assert sorted(ran) == list(range(6))


@pytest.mark.parametrize("seed", range(100))
async def test_each_item_is_run_once_though_the_nursery_is_cancelled_at_any_moment(seed, autojump_clock):
    rng, begun, handed = Random(seed), Counter(), 0

    async def run(item):
        begun[item] += 1  # before its first checkpoint: who is cancelled gives back what is in hand
        await trio.sleep(rng.choice([0, 0.3, rng.random()]))

    async with trio.open_nursery() as nursery:
        pool = TaskPool(nursery, run)
        nursery.cancel_scope.deadline = trio.current_time() + rng.uniform(0, 6)
        for _ in range(20):
            for _ in range(rng.randrange(4)):
                pool.start(handed)
                handed += 1
            if rng.random() < 0.03:
                nursery.cancel_scope.cancel()
                pool.start(handed)  # in the same pass: those that waited are on their way out
                handed += 1
            await trio.sleep(rng.choice([0, 0.3]))
        pool.retire()
    assert begun == Counter(range(handed))
