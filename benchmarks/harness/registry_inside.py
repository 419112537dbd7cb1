"""What cannot be seen from outside: a registry in a process of its own, without HTTP. Prints JSON.

python -m benchmarks.harness.registry_inside wake FOLDER --watchers 1000      from the write to each task's waking
python -m benchmarks.harness.registry_inside load FOLDER --daemon ID          from the store to the whole snapshot
"""

import argparse
import json
import time
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import trio
import trio.testing

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.settings import DiscoverySettings, StorageSettings
from econeura_daemon.events import EventLog
from econeura_daemon.registry import Query, RegisterService, open_registry
from econeura_daemon.storage import open_store
from econeura_daemon.supervision.collecting import collecting_seldom, keep_what_stands

WRITES = 50


@asynccontextmanager
async def opened(folder: Path, daemon_id: str):
    clock, rng = SystemClock(), Random(7)
    settings = StorageSettings(url=f"sqlite:///{folder / 'econeura.db'}")
    async with open_store(settings, folder) as store:
        began = time.perf_counter()
        async with open_registry(
            store=store,
            log=EventLog(store),
            settings=DiscoverySettings(),
            daemon_id=daemon_id,
            clock=clock,
            rng=rng,
        ) as registry:
            yield registry, began


async def wake(folder: Path, count: int) -> dict[str, float]:
    """Let so many tasks wait for one service, change it, and note how long after the commit each is awake."""
    committed, woken = 0, []
    query = Query("watched")

    async def watch(registry) -> None:
        index = registry.index
        while True:
            await registry.watch(query, index, 600)
            woken.append(time.perf_counter_ns() - committed)
            await trio.lowlevel.checkpoint()  # what it does then is not part of its waking
            index = registry.index

    def note(_change) -> None:
        nonlocal committed
        committed = time.perf_counter_ns()

    async with opened(folder, "dmn_bench") as (registry, _), trio.open_nursery() as nursery:
        registry.follow(note)
        keep_what_stands()
        for _ in range(count):
            nursery.start_soon(watch, registry)
        for turn in range(WRITES):
            await trio.testing.wait_all_tasks_blocked(0.01)
            body = {"id": "w", "type": "watched", "host": "127.0.0.1", "port": 80, "metadata": {"turn": turn}}
            await registry.register(RegisterService(**body))
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert len(woken) == count * WRITES, "each write woke each task once"
    woken.sort()
    return {
        "wake_ms_p50": woken[len(woken) // 2] / 1e6,
        "wake_ms_p99": woken[int(0.99 * (len(woken) - 1))] / 1e6,
        "wake_ms_max": woken[-1] / 1e6,
    }


async def load(folder: Path, daemon_id: str) -> dict[str, float]:
    """Open a registry on what a daemon left."""
    async with opened(folder, daemon_id) as (registry, began):
        found = sum(map(len, registry.snapshot().types.values()))
        return {"load_seconds": time.perf_counter() - began, "instances": found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["wake", "load"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--daemon")
    given = parser.parse_args()
    with collecting_seldom():
        if given.what == "wake":
            print(json.dumps(trio.run(wake, given.folder, given.watchers)))
        else:
            print(json.dumps(trio.run(load, given.folder, given.daemon)))
