"""A keep-alive HTTP/1.1 client with as little work a request as asyncio allows, and the two kinds of load.

The client is not what is measured, so it must cost less than any server it talks to: requests are prepared
bytes, answers are parsed by httptools, nothing else happens.
"""

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import attrs
import httptools
import orjson

_CANCELED = "the connection was closed before the answer"


class Connection(asyncio.Protocol):
    """One connection; several requests may be under way, answered in order."""

    def __init__(self) -> None:
        self.usable = False
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[tuple[int, bytes]]] = deque()
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        for future in self._waiting:
            if not future.done():
                future.set_exception(exc or ConnectionResetError(_CANCELED))
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        body, self._body = b"".join(self._body), []
        if not self._parser.should_keep_alive():
            self.usable = False
            self._transport.close()
        future = self._waiting.popleft()
        if not future.done():
            future.set_result((status, body))

    def request(self, prepared: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send and return the future answer: status and body."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._transport.write(prepared)
        return future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Client:
    """Prepared requests to one server, over connections that are opened again when the server closes them."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._idle: list[Connection] = []

    async def connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self.host, self.port)
        return connection

    async def send(self, prepared: bytes) -> tuple[int, bytes]:
        """Send over an idle connection, or a new one when all are busy."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                break
        else:
            connection = await self.connect()
        answer = await connection.request(prepared)
        if connection.usable:
            self._idle.append(connection)
        return answer

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        """Send, check that the answer is a 2xx, and return what its envelope holds."""
        status, answer = await self.send(self.prepare(method, path, body))
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path} was answered {status}: {answer[:500]!r}")
        document = orjson.loads(answer) if answer else None
        return document["data"] if isinstance(document, dict) and "data" in document else document

    def prepare(self, method: str, path: str, body: Any = None) -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
        if body is None:
            return f"{head}\r\n".encode()
        content = orjson.dumps(body)
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        return head.encode() + content

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()


@attrs.define
class Sent:
    """What a load did. Instants are nanoseconds of the monotonic clock, which all processes share."""

    started: int
    accepted: int = 0
    refused: Counter[int] = attrs.field(factory=Counter)
    """Answers other than 202, by status; the load goes on after a short pause."""
    scheduled_at: dict[str, int] = attrs.field(factory=dict)
    """By event id (open loop only): when the request was due."""
    answered_at: dict[str, int] = attrs.field(factory=dict)
    """By event id (open loop only): when the 202 was read."""


async def closed_loop(
    client: Client, requests: Sequence[bytes], seconds: float, connections: int, *, depth: int = 1
) -> Sent:
    """Keep ``depth`` requests under way on each of ``connections`` for ``seconds``."""
    order = itertools.cycle(requests)
    sent = Sent(started=time.monotonic_ns())
    end = sent.started + int(seconds * 1e9)

    async def one_connection() -> None:
        connection = await client.connect()
        under_way: deque[asyncio.Future[tuple[int, bytes]]] = deque()
        while True:
            if time.monotonic_ns() < end:
                if not connection.usable and not under_way:
                    connection = await client.connect()
                while connection.usable and len(under_way) < depth:
                    under_way.append(connection.request(next(order)))
            if not under_way:
                break
            status, _ = await under_way.popleft()
            if status == 202:
                sent.accepted += 1
            else:
                sent.refused[status] += 1
                await asyncio.sleep(0.01)
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one_connection())
    return sent


async def open_loop(client: Client, requests: Sequence[bytes], seconds: float, rate: float) -> Sent:
    """Send by a schedule made beforehand, whatever the server does: no coordinated omission."""
    order = itertools.cycle(requests)
    sent = Sent(started=time.monotonic_ns())

    async def one(prepared: bytes, due: int) -> None:
        status, body = await client.send(prepared)
        now = time.monotonic_ns()
        if status != 202:
            sent.refused[status] += 1
            return
        sent.accepted += 1
        document = orjson.loads(body)
        event_id = document.get("data", document)["id"]
        sent.scheduled_at[event_id], sent.answered_at[event_id] = due, now

    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * rate)):
            due = sent.started + int(number / rate * 1e9)
            wait = (due - time.monotonic_ns()) / 1e9
            if wait > 0:
                await asyncio.sleep(wait)
            group.create_task(one(next(order), due))
    return sent
