"""Many who watch one service, in one process with as little work as asyncio allows.

At the daemon they poll: an answer bears the index with which the next request waits. At etcd each has one stream that
goes on. Noted is when the last byte of each notification had come.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httptools

from benchmarks.harness.registries import Ours, Registry


class Watchers:
    """All of them."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.armed = 0
        """How many have asked."""
        self.answers = 0
        """All that ever came."""
        self.arrivals: list[int] = []
        """Since the last `take`: nanoseconds of the monotonic clock."""
        self.request_after: dict[str, bytes] = {}
        self._wanted = 0
        self._all_there = asyncio.Event()

    def note(self) -> None:
        self.answers += 1
        self.arrivals.append(time.monotonic_ns())
        if len(self.arrivals) == self._wanted:
            self._all_there.set()

    def expect(self, count: int) -> None:
        self.arrivals, self._wanted = [], count
        self._all_there.clear()

    async def take(self) -> list[int]:
        """Return when each of those that were expected came."""
        await asyncio.wait_for(self._all_there.wait(), 30)
        return self.arrivals


class Poller(asyncio.Protocol):
    """One that asks the daemon again and again."""

    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers
        self._index: str | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        index, known = self._index, self._watchers.request_after
        request = known.get(index or "")
        if request is None:
            known.clear()
            request = known[index or ""] = self._watchers.registry.watch(index)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-econeura-index":
            self._new_index = value.decode()

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 200:
            raise RuntimeError(f"a watcher was answered {self._parser.get_status_code()}")
        if self._index is None:
            self._watchers.armed += 1
        else:
            self._watchers.note()
        self._index = self._new_index
        self._ask()


class Listener(asyncio.Protocol):
    """One that has a stream of etcd's: one line of JSON for each notification."""

    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers
        self._line = b""
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._watchers.registry.watch(None))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            if b'"created":true' in line:
                self._watchers.armed += 1
            elif b'"events"' in line:
                self._watchers.note()


@asynccontextmanager
async def open_watchers(registry: Registry, count: int) -> AsyncGenerator[Watchers]:
    """Let so many watch for the length of the block."""
    watchers = Watchers(registry)
    kind = Poller if isinstance(registry, Ours) else Listener
    transports = []
    loop = asyncio.get_running_loop()
    for _ in range(count):
        transport, _ = await loop.create_connection(
            lambda: kind(watchers), registry.client.host, registry.client.port
        )
        transports.append(transport)
    try:
        await _until_all_wait(watchers, count)
        yield watchers
    finally:
        for transport in transports:
            transport.abort()


async def _until_all_wait(watchers: Watchers, count: int) -> None:
    while watchers.armed < count:  # noqa: ASYNC110 - no event for so many
        await asyncio.sleep(0.005)
    await rearmed(count)


async def rearmed(count: int) -> None:
    """Return once all of them wait again, as far as one knows: asking the daemon would be work for it."""
    await asyncio.sleep(0.05 + 0.0005 * count)
