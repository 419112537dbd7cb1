"""The store alone: the transaction of an event and its delivery, by 200 callers, beside the bare driver.

python -m benchmarks.storage
python -m benchmarks.storage --dsn postgresql://…      also there; its events and deliveries are deleted
"""

import argparse
import itertools
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import sqlalchemy as sa
import trio

from benchmarks.harness.processes import Cores, pinned
from benchmarks.harness.report import Spread, full_commit_us, ratio, table
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage import Connection, Hot, open_store

CALLERS = 200
BODY = b'{"id":"evt_","type":"bench.t1","data":{"text":"' + b"x" * 330 + b'"}}'
EVENT = Hot(
    sa.text(
        "INSERT INTO events (id, type, source, occurred_at, body)"
        " VALUES (:id, :type, :source, :occurred_at, :body)"
    ),
    *("id", "type", "source", "occurred_at", "body"),
)
DELIVERY = Hot(
    sa.text(
        "INSERT INTO deliveries (id, event_id, event_cursor, event_type, subscription_id, status, attempts,"
        " max_attempts, created_at, next_attempt_at) VALUES (:id,"
        " :event_id, (SELECT cursor FROM events WHERE id = :event_id), :type, :subscription_id, 'pending',"
        " 0, 10, :at, :at)"
    ),
    *("id", "event_id", "type", "subscription_id", "at"),
)
Row = tuple[Any, ...]


@attrs.frozen
class Database:
    """Where the rows go; ``settings`` is what the daemon's store is told."""

    backend: str
    settings: StorageSettings
    folder: Path

    @contextmanager
    def driver(self) -> Iterator[Any]:
        """A bare connection that commits nothing by itself, with the store's own durability."""
        if self.backend == "sqlite":
            path = self.folder / "econeura.db"
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        else:
            import psycopg

            with psycopg.connect(self.settings.url, autocommit=True) as connection:
                yield connection

    async def empty(self) -> None:
        """Bring the schema up to date and delete what a round before left."""
        async with open_store(self.settings, self.folder):
            pass
        with self.driver() as connection:
            for name in ("deliveries", "events"):
                connection.execute(f"DELETE FROM {name}" if self.backend == "sqlite" else f"TRUNCATE {name}")


def rows() -> Iterator[tuple[Row, Row]]:
    """Events and their deliveries, prepared: making ids is not what is measured."""
    now = int(time.time() * 1000)
    for number in itertools.count():
        event_id = f"evt_{number:026d}"
        yield (
            (event_id, "bench.t1", "api", now, BODY),
            (f"del_{number:026d}", event_id, "bench.t1", f"sub_{number % 100:026d}", now),
        )


async def by_store(database: Database, seconds: float) -> float:
    """`Store.transact`, 200 callers at once."""
    source, committed = rows(), 0

    def work(connection: Connection, event: Row, delivery: Row) -> None:
        connection.run(EVENT, [event])
        connection.run(DELIVERY, [delivery])

    async def caller(end: float) -> None:
        nonlocal committed
        while time.perf_counter() < end:
            event, delivery = next(source)
            await store.transact(partial(work, event=event, delivery=delivery))
            committed += 1

    async with open_store(database.settings, database.folder) as store:
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(caller, began + seconds)
        return committed / (time.perf_counter() - began)


def one_each(database: Database, seconds: float) -> float:
    """The driver, one transaction after the other; callers would wait for each other, in threads or not."""
    source, committed = rows(), 0
    event_text, event_row, delivery_text, delivery_row = _texts(database.backend)
    with database.driver() as connection:
        began = time.perf_counter()
        while time.perf_counter() < began + seconds:
            event, delivery = next(source)
            connection.execute("BEGIN")
            connection.execute(event_text, event_row(event))
            connection.execute(delivery_text, delivery_row(delivery))
            connection.execute("COMMIT")
            committed += 1
        return committed / (time.perf_counter() - began)


def floor(database: Database, seconds: float) -> float:
    """The driver's executemany, 200 rows a commit, nobody to answer to: it does not get cheaper."""
    source, committed = rows(), 0
    event_text, event_row, delivery_text, delivery_row = _texts(database.backend)
    with database.driver() as connection:
        cursor = connection.cursor()
        began = time.perf_counter()
        while time.perf_counter() < began + seconds:
            group = list(itertools.islice(source, CALLERS))
            cursor.execute("BEGIN")
            cursor.executemany(event_text, [event_row(event) for event, _ in group])
            cursor.executemany(delivery_text, [delivery_row(delivery) for _, delivery in group])
            cursor.execute("COMMIT")
            committed += len(group)
        return committed / (time.perf_counter() - began)


def _texts(backend: str) -> tuple[str, Callable[[Row], Row], str, Callable[[Row], Row]]:
    """The very statements of the store, and how a row becomes their parameters."""
    event, delivery = EVENT.compiled(backend), DELIVERY.compiled(backend)
    return event.text, event.arrange or tuple, delivery.text, delivery.arrange or tuple


async def measure(database: Database, seconds: float, rounds: int) -> None:
    names = ("floor: executemany, groups of 200", "store.transact, 200 callers", "a transaction each")
    measured: list[list[dict[str, float]]] = [[], [], []]
    for _ in range(rounds):
        for figures, run in zip(measured, (floor, by_store, one_each), strict=True):
            await database.empty()
            result = run(database, seconds)
            figures.append({"rate": result if isinstance(result, float) else await result})
    lines = []
    for name, figures in zip(names, measured, strict=True):
        rate = Spread.of([f["rate"] for f in figures])
        lines.append([
            name, rate.text(), f"{1e6 / rate.median:,.0f}",
            ratio(figures, measured[0], "rate").text(2), ratio(figures, measured[2], "rate").text(1),
        ])  # fmt: skip
    durable = "synchronous=FULL" if database.backend == "sqlite" else "the server's own synchronous_commit"
    print(f"\n{database.backend}, {durable}, event and delivery in one transaction, {rounds} rounds\n")
    print(table(["", "a second", "us", "to the floor", "to one each"], lines))


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn", help="postgresql://…, a database of its own")
    parser.add_argument("--seconds", type=float, default=3.0, help="a run; default 3")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument(
        "--dir", type=Path, help="where the SQLite file goes: a real disk; default: the system's"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="econeura-bench-", dir=arguments.dir) as scratch:
        folder = Path(scratch)
        print(f"load average {os.getloadavg()[0]:.1f}; one-row commit: {full_commit_us(folder):.0f} us")
        databases = [Database("sqlite", StorageSettings(), folder)]
        if arguments.dsn:
            databases.append(Database("postgresql", StorageSettings(url=arguments.dsn), folder))
        for database in databases:
            await measure(database, arguments.seconds, arguments.rounds)


if __name__ == "__main__":
    with pinned(Cores.choose().system):
        trio.run(main)
