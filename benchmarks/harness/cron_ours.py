"""Cron in a process of its own, without HTTP. Prints JSON.

python -m benchmarks.harness.cron_ours fill FOLDER --jobs 100000 --a-second 1000 [--jitter]
python -m benchmarks.harness.cron_ours ticks FOLDER --seconds 20     start-up, memory, then ticks for so long
python -m benchmarks.harness.cron_ours burst FOLDER                  every job due at one second
"""

import argparse
import gc
import json
import os
import time
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import sqlalchemy as sa
import trio

from benchmarks.harness.processes import peak_rss_bytes, rss_bytes
from econeura_daemon.core.clock import SystemClock, format_ms
from econeura_daemon.core.jobs import ActionBody, ActionKind, JobBody
from econeura_daemon.core.settings import CronSettings, StorageSettings
from econeura_daemon.cron.jobs import new_job
from econeura_daemon.cron.model import Outcome, RunStatus
from econeura_daemon.cron.opening import open_cron
from econeura_daemon.cron.reports import Reports
from econeura_daemon.cron.store import jobs as sql
from econeura_daemon.events import EventLog
from econeura_daemon.storage import open_store
from econeura_daemon.storage.model import Claimant
from econeura_daemon.supervision.collecting import collecting_seldom

ACTION = ActionBody(kind=ActionKind.REQUEST, service="workers", method="POST", path="/tick")
QUIET = "0 0 1 1 *"
GOOD = Outcome(status=RunStatus.SUCCEEDED, output="done")
LAG_STEP = 0.005


def figures_of(late, name="late"):
    """Median, 99th percentile and longest of seconds, in milliseconds."""
    late = sorted(late)
    at = {"p50": len(late) // 2, "p99": int(0.99 * (len(late) - 1)), "max": len(late) - 1}
    return {f"{name}_ms_{key}": late[index] * 1000 for key, index in at.items()} if late else {}


class Calls:
    """What jobs call: notes when, answers at once. It is told of looks and of ends, too."""

    def __init__(self, expected=0):
        self.at = {}
        self.first_look = trio.Event()
        self.all_ended = trio.Event()
        self.expected = expected

    async def __call__(self, _action, key, _timeout):
        self.at[key] = time.time()
        await trio.lowlevel.checkpoint()
        return GOOD

    def looked(self, _look):
        self.first_look.set()

    def ended(self, _status):
        self.expected -= 1
        if self.expected == 0:
            self.all_ended.set()


@asynccontextmanager
async def opened(folder, calls):
    rng = Random(7)
    settings = StorageSettings(url=f"sqlite:///{folder / 'econeura.db'}")
    async with (
        open_store(settings, folder) as store,
        open_cron(
            store=store,
            reports=Reports(EventLog(store), rng, calls.ended),
            claimant=Claimant("dmn_bench", f"run_{os.getpid()}", None),
            settings=CronSettings(),
            call=calls,
            tasks={},
            observer=calls,
            clock=SystemClock(),
            rng=rng,
        ) as cron,
    ):
        yield store, cron


async def fill(folder, jobs, a_second, jitter):
    """Write jobs: so many due at each second of every minute, the rest at New Year's."""
    now = int(time.time() * 1000)
    settings = StorageSettings(url=f"sqlite:///{folder / 'econeura.db'}")

    def job(number):
        second, due = divmod(number, a_second)
        schedule = f"{second} * * * * *" if due >= 0 and second < 60 else QUIET
        body = JobBody(
            name=f"job {number}", schedule=schedule, action=ACTION, jitter_ms=1000 if jitter else 0
        )
        return new_job(f"job_{number:06d}", body, now)

    async with open_store(settings, folder) as store:
        for start in range(0, jobs, 1000):
            some = [job(number) for number in range(start, min(jobs, start + 1000))]
            await store.transact(partial(sql.insert, jobs=some))
    return {}


async def owe_nothing(folder, until):
    """Take what falls due before ``until`` away: what was missed since the store was filled would be caught up on."""
    passed = sa.text(
        "UPDATE cron_jobs SET next_at = next_at + :more, due_at = due_at + :more WHERE next_at < :until"
    )
    async with open_store(StorageSettings(url=f"sqlite:///{folder / 'econeura.db'}"), folder) as store:
        more = {"more": 60_000, "until": until}  # every job of these has a tick a minute
        while await store.transact(lambda connection: connection.execute(passed, more).rowcount):
            pass


async def ticks(folder, seconds):
    """Open, note when the first look was taken; then tick for so long, from second to second."""
    calls = Calls()
    begin = int(time.time()) + 4.0
    await owe_nothing(folder, int(begin) * 1000)
    gc.collect()
    rss, began = rss_bytes(os.getpid()), time.perf_counter()
    async with opened(folder, calls) as (store, cron):
        await calls.first_look.wait()
        start_up, standing = time.perf_counter() - began, rss_bytes(os.getpid())
        await trio.sleep(begin - 0.05 - time.time())
        cpu = time.process_time()
        await trio.sleep(begin + seconds - 0.05 - time.time())
        cpu = time.process_time() - cpu
        end = begin + seconds - 0.05
        cron.ticker.stop()
        late = await store.read(partial(lateness, calls=calls, begin=begin, end=end))
    return {
        "start_up_seconds": start_up,
        "rss_bytes": standing - rss,
        "rss_after_bytes": rss_bytes(os.getpid()),
        "ticks": len(late),
        "cpu_us_a_tick": cpu * 1e6 / max(1, len(late)),
        "core": cpu / seconds,
        **figures_of(late),
    }


def lateness(connection, calls, begin, end):
    """From the instant at which each run was due (its tick and its job's jitter) to its call, in seconds."""
    found = connection.execute(
        sa.text("SELECT id, job_id, scheduled_for FROM cron_runs WHERE scheduled_for >= :first"),
        {"first": int(begin - 1) * 1000},
    ).all()
    jittered = connection.execute(
        sa.text("SELECT id, due_at - next_at AS jitter FROM cron_jobs WHERE due_at > next_at")
    )
    jitters = {row.id: row.jitter for row in jittered}
    late, now = [], time.time()
    for row in found:
        due = (row.scheduled_for + jitters.get(row.job_id, 0)) / 1000
        if begin <= due < end:
            # A run that was not begun by the end counts as late as it is by then.
            key = f"cron:{row.job_id}:{format_ms(row.scheduled_for)}"  # as `Claimed.idempotency_key` makes it
            late.append(calls.at.get(key, now) - due)
    return late


async def burst(folder):
    """Let every job be due at one second; note how long it takes, and how late the loop's other tasks are."""
    lags = []
    database = f"sqlite:///{folder / 'econeura.db'}"
    due = int(time.time()) + 4
    async with open_store(StorageSettings(url=database), folder) as store:
        await store.transact(
            lambda c: c.execute(
                sa.text("UPDATE cron_jobs SET next_at = :due, due_at = :due"), {"due": due * 1000}
            )
        )
        jobs = await store.read(lambda c: c.execute(sa.text("SELECT count(*) FROM cron_jobs")).scalar_one())

    calls = Calls(jobs)

    async def lag():
        while True:
            began = time.perf_counter()
            await trio.sleep(LAG_STEP)
            lags.append(time.perf_counter() - began - LAG_STEP)

    async with opened(folder, calls) as _, trio.open_nursery() as nursery:
        await trio.sleep(max(0, due - 0.1 - time.time()))
        rss, cpu = rss_bytes(os.getpid()), time.process_time()
        nursery.start_soon(lag)
        await calls.all_ended.wait()
        took = time.time() - due
        cpu = time.process_time() - cpu
        nursery.cancel_scope.cancel()
    return {
        "jobs": jobs,
        "took_seconds": took,
        "runs_a_second": jobs / took,
        "cpu_us_a_tick": cpu * 1e6 / jobs,
        "rss_before_bytes": rss,
        "rss_peak_bytes": peak_rss_bytes(os.getpid()),
        **figures_of(lags, "lag"),
    }


async def main(given):
    if given.what == "fill":
        return await fill(given.folder, given.jobs, given.a_second, given.jitter)
    if given.what == "ticks":
        return await ticks(given.folder, given.seconds)
    return await burst(given.folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["fill", "ticks", "burst"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--a-second", type=int)
    parser.add_argument("--jitter", action="store_true")
    parser.add_argument("--seconds", type=int)
    with collecting_seldom():
        print(json.dumps(trio.run(main, parser.parse_args())))
