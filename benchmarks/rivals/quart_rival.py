"""What a user would otherwise write: Quart on Trio, Hypercorn, SQLite, one httpx client a host.

One SQLite transaction an event and one an attempt, both with ``synchronous=FULL``, in a worker thread; the
event is committed before its 202. Restart resumes what is pending; failures are retried with a doubled delay.
It does with care what the libraries' documentation suggests, and nothing beyond it.

Run: ``quart_rival.py --dir DIR --port PORT``.
"""

import argparse
import base64
import hashlib
import hmac
import json
import math
import sqlite3
import ssl
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import hypercorn.trio
import trio
from hypercorn.config import Config
from quart import request
from quart_trio import QuartTrio

WORKERS = 50
MAX_ATTEMPTS = 10
RETRY_DELAY = 5.0
SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS subscriptions (id TEXT PRIMARY KEY, url TEXT, events TEXT, secret TEXT);
CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, type TEXT, body BLOB, created_at REAL);
CREATE TABLE IF NOT EXISTS deliveries (id TEXT PRIMARY KEY, event_id TEXT, subscription_id TEXT, status TEXT,
    attempts INTEGER DEFAULT 0, next_attempt_at REAL);
CREATE INDEX IF NOT EXISTS deliveries_status ON deliveries (status, next_attempt_at);
CREATE TABLE IF NOT EXISTS attempts (delivery_id TEXT, number INTEGER, started_at REAL, duration_ms INTEGER,
    status_code INTEGER, error TEXT, response_body BLOB, PRIMARY KEY (delivery_id, number));
"""
PENDING = """SELECT d.id, d.event_id, e.type, e.body, d.subscription_id, d.attempts
    FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.status = ? AND d.next_attempt_at <= ?"""

app = QuartTrio(__name__)


class Service:
    """The subscriptions in memory, everything else in SQLite, one queue of deliveries and its workers."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.connection.executescript(SCHEMA)
        self.one_at_a_time = trio.CapacityLimiter(1)
        self.subscriptions: dict[str, dict[str, Any]] = {}
        self.by_type: dict[str, list[str]] = {}
        for row in self.connection.execute("SELECT id, url, events, secret FROM subscriptions"):
            self.remember(*row)
        self.put, self.take = trio.open_memory_channel[tuple[Any, ...]](math.inf)
        self.clients: dict[str, httpx.AsyncClient] = {}
        self.tls = ssl.create_default_context()

    def remember(self, subscription_id: str, url: str, events: str, secret: str) -> None:
        self.subscriptions[subscription_id] = {"id": subscription_id, "url": url, "secret": secret}
        for event_type in json.loads(events):
            self.by_type.setdefault(event_type, []).append(subscription_id)

    async def transact(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        def run() -> Any:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(self.connection)
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")
            return result

        return await trio.to_thread.run_sync(run, limiter=self.one_at_a_time)

    async def publish(self, event_type: str, data: dict[str, Any]) -> tuple[str, int]:
        event_id, now = f"evt_{uuid.uuid4().hex}", time.time()
        event = {
            "id": event_id,
            "type": event_type,
            "data": data,
            "timestamp": timestamp(),
            "version": "1.0.0",
        }
        body = json.dumps(event, separators=(",", ":")).encode()
        matching = self.by_type.get(event_type, []) + self.by_type.get("*", [])
        deliveries = [(f"del_{uuid.uuid4().hex}", event_id, s, "pending", now) for s in matching]

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (event_id, event_type, body, now))
            connection.executemany(
                "INSERT INTO deliveries (id, event_id, subscription_id, status, next_attempt_at)"
                " VALUES (?, ?, ?, ?, ?)",
                deliveries,
            )

        await self.transact(work)
        for delivery_id, _, subscription_id, _, _ in deliveries:
            self.put.send_nowait((delivery_id, event_id, event_type, body, subscription_id, 0))
        return event_id, len(deliveries)

    async def deliver_for_ever(self) -> None:
        async for delivery in self.take:
            await self.deliver(delivery)

    async def deliver(self, delivery: tuple[Any, ...]) -> None:
        delivery_id, event_id, event_type, body, subscription_id, attempts = delivery
        subscription = self.subscriptions[subscription_id]
        host = urlsplit(subscription["url"]).netloc
        if host not in self.clients:
            self.clients[host] = httpx.AsyncClient(verify=self.tls, timeout=15)
        headers = signed(subscription["secret"], event_id, body)
        headers |= {"X-Webhook-Event": event_type, "X-Webhook-Delivery": delivery_id}
        started, status_code, error, answer = time.time(), None, None, b""
        try:
            response = await self.clients[host].post(subscription["url"], content=body, headers=headers)
            status_code, answer = response.status_code, response.content[:4096]
        except httpx.HTTPError as failure:
            error = repr(failure)
        ended, number = time.time(), attempts + 1
        if status_code is not None and 200 <= status_code < 300:
            status, due = "delivered", None
        elif number < MAX_ATTEMPTS:
            status, due = "retrying", ended + RETRY_DELAY * 2**attempts
        else:
            status, due = "failed", None
        attempt = (delivery_id, number, started, int((ended - started) * 1000), status_code, error, answer)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)", attempt)
            connection.execute(
                "UPDATE deliveries SET status = ?, attempts = ?, next_attempt_at = ? WHERE id = ?",
                (status, number, due, delivery_id),
            )

        await self.transact(work)

    async def retry_for_ever(self) -> None:
        """Queue what an earlier run left pending, then, every second, what is due again."""
        state = "pending"
        while True:

            def work(connection: sqlite3.Connection, state: str = state) -> list[tuple[Any, ...]]:
                due = connection.execute(PENDING, (state, time.time())).fetchall()
                ids = [(row[0],) for row in due]
                connection.executemany("UPDATE deliveries SET status = 'pending' WHERE id = ?", ids)
                return due

            for row in await self.transact(work):
                self.put.send_nowait(row)
            state = "retrying"
            await trio.sleep(1)


def signed(secret: str, event_id: str, body: bytes) -> dict[str, str]:
    moment = str(int(time.time()))
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    standard = hmac.digest(key, f"{event_id}.{moment}.".encode() + body, "sha256")
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": moment,
        "webhook-signature": "v1," + base64.b64encode(standard).decode(),
        "X-Webhook-Signature": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
    }


def timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def reply(data: dict[str, Any], status: int) -> tuple[dict[str, Any], int]:
    return {"success": True, "data": data, "timestamp": timestamp()}, status


@app.post("/v1/webhooks/subscriptions")
async def subscribe():
    body = await request.get_json()
    row = (f"sub_{uuid.uuid4().hex}", body["url"], json.dumps(body["events"]), body["secret"])
    insert = "INSERT INTO subscriptions VALUES (?, ?, ?, ?)"
    await app.service.transact(lambda connection: connection.execute(insert, row))
    app.service.remember(*row)
    return reply({"id": row[0], "url": row[1]}, 201)


@app.post("/v1/events")
async def publish():
    body = await request.get_json()
    if not isinstance(body.get("type"), str) or not isinstance(body.get("data"), dict):
        return {"success": False, "error": "'type' and 'data' are required"}, 400
    event_id, deliveries = await app.service.publish(body["type"], body["data"])
    return reply({"id": event_id, "deliveries": deliveries}, 202)


@app.get("/v1/webhooks/stats")
async def stats():
    count = "SELECT status, count(*) FROM deliveries GROUP BY status"
    counts = dict(await app.service.transact(lambda connection: connection.execute(count).fetchall()))
    delivered, failed = counts.get("delivered", 0), counts.get("failed", 0)
    total = sum(counts.values())
    return reply(
        {
            "totalSubscriptions": len(app.service.subscriptions),
            "totalDeliveries": total,
            "deliveredDeliveries": delivered,
            "failedDeliveries": failed,
            "pendingDeliveries": total - delivered - failed,
        },
        200,
    )


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    app.service = Service(arguments.dir / "rival.db")
    config = Config()
    config.bind = [f"127.0.0.1:{arguments.port}"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.service.retry_for_ever)
        for _ in range(WORKERS):
            nursery.start_soon(app.service.deliver_for_ever)
        await hypercorn.trio.serve(app, config)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
