"""The receivers: one process, one address of 127.0.0.0/8 a host, a 204 to everything.

Each subscription has a host of its own, as in real life; loopback has 2^24 addresses for that. What arrived,
and when by the monotonic clock that all processes of a machine share, is asked for over a unix socket. A
request to ``/hang`` is never answered: a dead subscriber.

Run: ``-m benchmarks.harness.sinks --hosts N --control SOCKET``; prints its URLs, as JSON, when it listens.
"""

import argparse
import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import httptools
import orjson
import uvloop

KEPT = 20
"""Requests kept whole, for checking their signatures after the run."""
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class Arrivals:
    """What came so far."""

    def __init__(self) -> None:
        self.requests = 0
        self.first: dict[str, int] = {}
        """By ``webhook-id`` and subscriber: when it came first."""
        self.repeats = 0
        self.kept: list[dict[str, Any]] = []

    def add(self, event_id: str, path: str, now: int, headers: dict[str, str], body: list[bytes]) -> None:
        self.requests += 1
        if self.first.setdefault(f"{event_id} {path}", now) is not now:
            self.repeats += 1
        if len(self.kept) < KEPT:
            self.kept.append({"path": path, "headers": headers, "body": b"".join(body).decode()})


class Receiver(asyncio.Protocol):
    """One connection of a sender's."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url, self._id, self._headers, self._body = b"", "", {}, []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._arrivals.kept) < KEPT:
            self._headers[name.decode().lower()] = value.decode()
        if len(name) == 10 and name.lower() == b"webhook-id":
            self._id = value.decode()

    def on_body(self, body: bytes) -> None:
        if len(self._arrivals.kept) < KEPT:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._url == b"/hang":
            return
        self._arrivals.add(self._id, self._url.decode(), time.monotonic_ns(), self._headers, self._body)
        self._transport.write(NO_CONTENT)


async def main(hosts: int, control: Path) -> None:
    loop = asyncio.get_running_loop()
    arrivals = Arrivals()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    servers = [
        await loop.create_server(
            lambda: Receiver(arrivals), f"127.0.{1 + n // 200}.{1 + n % 200}", 0, backlog=512
        )
        for n in range(hosts)
    ]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while question := (await reader.readline()).strip():
            reply: Any = {"requests": arrivals.requests, "repeats": arrivals.repeats}
            if question == b"take":
                reply, arrivals.first = arrivals.first, {}
            elif question == b"kept":
                reply, arrivals.kept = arrivals.kept, []
            writer.write(orjson.dumps(reply) + b"\n")
        writer.close()

    asker = await asyncio.start_unix_server(answer, control)
    urls = ["http://{}:{}".format(*server.sockets[0].getsockname()) for server in servers]
    print(orjson.dumps(urls).decode(), flush=True)
    await stopped.wait()
    for server in [*servers, asker]:
        server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--control", type=Path, required=True)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(arguments.hosts, arguments.control))
