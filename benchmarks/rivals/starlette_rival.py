"""The asyncio sibling of `quart_rival`: Starlette, uvicorn (uvloop, httptools), aiohttp, aiosqlite.

The same promises: the event and its deliveries are committed with ``synchronous=FULL`` before the 202, every
attempt is recorded, failures are retried, a restart resumes.

Run: ``starlette_rival.py --dir DIR --port PORT``.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import aiosqlite
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

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


class Service:
    """The subscriptions in memory, everything else in SQLite, one queue of deliveries and its workers."""

    def __init__(self, connection: aiosqlite.Connection, session: aiohttp.ClientSession) -> None:
        self.connection = connection
        self.session = session
        self.lock = asyncio.Lock()  # statements of two transactions must not mix on one connection
        self.subscriptions: dict[str, dict[str, Any]] = {}
        self.by_type: dict[str, list[str]] = {}
        self.queue: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    def remember(self, subscription_id: str, url: str, events: str, secret: str) -> None:
        self.subscriptions[subscription_id] = {"id": subscription_id, "url": url, "secret": secret}
        for event_type in json.loads(events):
            self.by_type.setdefault(event_type, []).append(subscription_id)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[aiosqlite.Connection]:
        async with self.lock:
            try:
                yield self.connection  # the driver begins at the first INSERT or UPDATE
            except BaseException:
                await self.connection.rollback()
                raise
            await self.connection.commit()

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
        async with self.transaction() as connection:
            await connection.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?)", (event_id, event_type, body, now)
            )
            await connection.executemany(
                "INSERT INTO deliveries (id, event_id, subscription_id, status, next_attempt_at)"
                " VALUES (?, ?, ?, ?, ?)",
                deliveries,
            )
        for delivery_id, _, subscription_id, _, _ in deliveries:
            self.queue.put_nowait((delivery_id, event_id, event_type, body, subscription_id, 0))
        return event_id, len(deliveries)

    async def deliver_for_ever(self) -> None:
        while True:
            await self.deliver(await self.queue.get())

    async def deliver(self, delivery: tuple[Any, ...]) -> None:
        delivery_id, event_id, event_type, body, subscription_id, attempts = delivery
        subscription = self.subscriptions[subscription_id]
        headers = signed(subscription["secret"], event_id, body)
        headers |= {"X-Webhook-Event": event_type, "X-Webhook-Delivery": delivery_id}
        started, status_code, error, answer = time.time(), None, None, b""
        try:
            async with self.session.post(
                subscription["url"], data=body, headers=headers, allow_redirects=False
            ) as response:
                status_code, answer = response.status, (await response.read())[:4096]
        except (aiohttp.ClientError, TimeoutError) as failure:
            error = repr(failure)
        ended, number = time.time(), attempts + 1
        if status_code is not None and 200 <= status_code < 300:
            status, due = "delivered", None
        elif number < MAX_ATTEMPTS:
            status, due = "retrying", ended + RETRY_DELAY * 2**attempts
        else:
            status, due = "failed", None
        attempt = (delivery_id, number, started, int((ended - started) * 1000), status_code, error, answer)
        async with self.transaction() as connection:
            await connection.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)", attempt)
            await connection.execute(
                "UPDATE deliveries SET status = ?, attempts = ?, next_attempt_at = ? WHERE id = ?",
                (status, number, due, delivery_id),
            )

    async def retry_for_ever(self) -> None:
        """Queue what an earlier run left pending, then, every second, what is due again."""
        state = "pending"
        while True:
            async with self.transaction() as connection:
                due = list(await connection.execute_fetchall(PENDING, (state, time.time())))
                ids = [(row[0],) for row in due]
                await connection.executemany("UPDATE deliveries SET status = 'pending' WHERE id = ?", ids)
            for row in due:
                self.queue.put_nowait(tuple(row))
            state = "retrying"
            await asyncio.sleep(1)


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


def reply(data: dict[str, Any], status: int) -> JSONResponse:
    return JSONResponse({"success": True, "data": data, "timestamp": timestamp()}, status)


async def subscribe(request: Request) -> JSONResponse:
    service, body = request.app.state.service, await request.json()
    row = (f"sub_{uuid.uuid4().hex}", body["url"], json.dumps(body["events"]), body["secret"])
    async with service.transaction() as connection:
        await connection.execute("INSERT INTO subscriptions VALUES (?, ?, ?, ?)", row)
    service.remember(*row)
    return reply({"id": row[0], "url": row[1]}, 201)


async def publish(request: Request) -> JSONResponse:
    body = await request.json()
    if not isinstance(body.get("type"), str) or not isinstance(body.get("data"), dict):
        return JSONResponse({"success": False, "error": "'type' and 'data' are required"}, 400)
    event_id, deliveries = await request.app.state.service.publish(body["type"], body["data"])
    return reply({"id": event_id, "deliveries": deliveries}, 202)


async def stats(request: Request) -> JSONResponse:
    service = request.app.state.service
    count = "SELECT status, count(*) FROM deliveries GROUP BY status"
    async with service.lock:
        counts = {row[0]: row[1] for row in await service.connection.execute_fetchall(count)}
    delivered, failed = counts.get("delivered", 0), counts.get("failed", 0)
    total = sum(counts.values())
    return reply(
        {
            "totalSubscriptions": len(service.subscriptions),
            "totalDeliveries": total,
            "deliveredDeliveries": delivered,
            "failedDeliveries": failed,
            "pendingDeliveries": total - delivered - failed,
        },
        200,
    )


def create_app(path: Path) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiosqlite.connect(path) as connection, aiohttp.ClientSession(timeout=timeout) as session:
            await connection.executescript(SCHEMA)
            service = app.state.service = Service(connection, session)
            for row in await connection.execute_fetchall("SELECT id, url, events, secret FROM subscriptions"):
                service.remember(*row)
            tasks = [asyncio.create_task(service.deliver_for_ever()) for _ in range(WORKERS)]
            tasks.append(asyncio.create_task(service.retry_for_ever()))
            yield
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    routes = [
        Route("/v1/webhooks/subscriptions", subscribe, methods=["POST"]),
        Route("/v1/events", publish, methods=["POST"]),
        Route("/v1/webhooks/stats", stats),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    uvicorn.run(
        create_app(arguments.dir / "rival.db"),
        host="127.0.0.1",
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
