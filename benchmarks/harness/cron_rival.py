"""APScheduler 3 in a process of its own: the same jobs, in memory or in SQLite. Prints JSON.

python -m benchmarks.harness.cron_rival fill FOLDER --jobs 10000 --a-second 100
python -m benchmarks.harness.cron_rival ticks FOLDER --store sqlite --seconds 20
"""

import argparse
import gc
import json
import logging
import os
import threading
import time
from pathlib import Path

import sqlalchemy as sa
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from benchmarks.harness.cron_ours import figures_of
from benchmarks.harness.processes import rss_bytes

GRACE = 3600
"""Seconds; the daemon's default misfire window. APScheduler's own default drops what is a second late."""


def tick():
    """What jobs call."""


class Scheduler(BackgroundScheduler):
    """Tells when it took its first look."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first_look = threading.Event()

    def _process_jobs(self):
        pause = super()._process_jobs()
        self.first_look.set()
        return pause


def scheduler(folder, store, synchronous="FULL"):
    """Its defaults, but for the grace; SQLite as durable as the daemon's."""
    if store == "memory":
        kept = MemoryJobStore()
    else:
        engine = sa.create_engine(f"sqlite:///{folder / 'apscheduler.db'}")

        @sa.event.listens_for(engine, "connect")
        def prepare(connection, _record):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")

        kept = SQLAlchemyJobStore(engine=engine)
    defaults = {"misfire_grace_time": GRACE, "coalesce": True}
    return Scheduler(jobstores={"default": kept}, job_defaults=defaults, timezone="UTC")


def add(scheduler, jobs, a_second):
    """Add jobs: so many due at each second of every minute, the rest at New Year's."""
    for number in range(jobs):
        second = number // a_second
        trigger = (
            CronTrigger(second=second, timezone="UTC")
            if second < 60
            else CronTrigger(month=1, day=1, hour=0, minute=0, timezone="UTC")
        )
        scheduler.add_job(tick, trigger, id=f"job_{number:06d}", name=f"job {number}")


def fill(folder, jobs, a_second):
    """Write the jobs without waiting for the disk: only what comes later is measured."""
    filled = scheduler(folder, "sqlite", "OFF")
    filled.start(paused=True)
    add(filled, jobs, a_second)
    filled.shutdown()
    return {}


def ticks(folder, store, jobs, a_second, seconds):
    """Start, note when the first look was taken; then tick for so long, from second to second."""
    done = []
    gc.collect()
    rss, began = rss_bytes(os.getpid()), time.perf_counter()
    running = scheduler(folder, store)
    if store == "memory":
        add(running, jobs, a_second)  # it keeps nothing: whoever starts it says all of it again
    running.add_listener(
        lambda event: done.append((event.scheduled_run_time.timestamp(), time.time())), EVENT_JOB_EXECUTED
    )
    running.start()
    running.first_look.wait()
    start_up, standing = time.perf_counter() - began, rss_bytes(os.getpid())
    begin = int(time.time()) + 2.0
    time.sleep(begin - 0.05 - time.time())
    cpu = time.process_time()
    time.sleep(begin + seconds - 0.05 - time.time())
    cpu = time.process_time() - cpu
    end = begin + seconds - 0.05
    late = [at - due for due, at in done if begin <= due < end]
    running.pause()  # else its thread may submit to what is shut down
    running.shutdown()
    return {
        "start_up_seconds": start_up,
        "rss_bytes": standing - rss,
        "ticks": len(late),
        "cpu_us_a_tick": cpu * 1e6 / max(1, len(late)),
        "core": cpu / seconds,
        **figures_of(late),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["fill", "ticks"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", choices=["memory", "sqlite"], default="sqlite")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--a-second", type=int)
    parser.add_argument("--seconds", type=int)
    given = parser.parse_args()
    logging.disable()  # ticks that fall due while it shuts down are told as errors, thousands of them
    if given.what == "fill":
        found = fill(given.folder, given.jobs, given.a_second)
    else:
        found = ticks(given.folder, given.store, given.jobs, given.a_second, given.seconds)
    print(json.dumps(found))
