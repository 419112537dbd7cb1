"""Owing a dead subscription many deliveries, while others are measured.

The dead one's receiver accepts a request and never answers; one attempt at a time waits for its timeout.
Up to `LARGEST_BY_API` deliveries are made by events through the batch route. More are written straight into
the SQLite file while the daemon is stopped: what it finds at its start is the same, and it is sooner done.
"""

import asyncio
import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.harness.client import Client
from econeura_daemon.core.clock import format_ms, to_ms
from econeura_daemon.core.ids import new_id
from econeura_daemon.core.jsons import dumps

LARGEST_BY_API = 100_000
EVENT_TYPE = "bench.dead"
DATA = {"order": 4711, "note": "owed to a receiver that never answers"}
BATCH = 1000


async def subscribe_dead(client: Client, sink: str) -> str:
    """Subscribe a receiver that never answers; return the subscription's id."""
    body = {"url": f"{sink}/hang", "events": [EVENT_TYPE], "maxInFlight": 1}
    return (await client.json("POST", "/v1/webhooks/subscriptions", body))["id"]


async def seed_by_api(client: Client, count: int) -> None:
    """Publish ``count`` events for it, 1000 a request, four requests at once."""
    sizes = iter([BATCH] * (count // BATCH) + ([count % BATCH] if count % BATCH else []))

    async def some() -> None:
        for size in sizes:
            events = [{"type": EVENT_TYPE, "data": DATA}] * size
            await client.json("POST", "/v1/events/batch", {"events": events})

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(some())


def seed_file(path: Path, subscription_id: str, count: int) -> None:
    """Write ``count`` events and pending deliveries, a millisecond apart, into a stopped daemon's file."""
    rng = random.Random(4711)
    first = datetime.now(UTC) - timedelta(milliseconds=count)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -262144")
        cursor = connection.execute("SELECT coalesce(max(cursor), 0) FROM events").fetchone()[0]
        for start in range(0, count, 10_000):
            events, deliveries = [], []
            for number in range(start, min(start + 10_000, count)):
                cursor += 1
                at = first + timedelta(milliseconds=number)
                ms, event_id = to_ms(at), new_id("evt", at, rng)
                body = {
                    "id": event_id,
                    "type": EVENT_TYPE,
                    "data": DATA,
                    "timestamp": format_ms(ms),
                    "source": "api",
                    "version": "1.0.0",
                }
                events.append((cursor, event_id, EVENT_TYPE, "api", ms, dumps(body)))
                delivery_id = new_id("del", at, rng)
                deliveries.append((delivery_id, event_id, cursor, EVENT_TYPE, subscription_id, ms, ms))
            connection.executemany(
                "INSERT INTO events (cursor, id, type, source, occurred_at, body) VALUES (?, ?, ?, ?, ?, ?)",
                events,
            )
            connection.executemany(
                "INSERT INTO deliveries (id, event_id, event_cursor, event_type, subscription_id, status,"
                " attempts, max_attempts, created_at, next_attempt_at)"
                " VALUES (?, ?, ?, ?, ?, 'pending', 0, 10, ?, ?)",
                deliveries,
            )
            connection.commit()
        connection.execute("INSERT INTO delivery_totals VALUES ('seeded', ?, 0, 0, 0)", (count,))
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
