"""A load generator without an event loop: one thread, sockets and the kernel's own waits.

For systems that answer in tens of microseconds, where a client on asyncio would be what is measured. Requests are
prepared bytes; of an answer status and ``Content-Length`` are read, nothing else. Any other framing is an error.
"""

import itertools
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence

import attrs

PATIENCE = 5.0
"""Seconds that an answer may take, at the longest."""
_LENGTH = b"content-length: "


@attrs.define
class Loaded:
    """What a load did."""

    seconds: float = 0.0
    answered: int = 0
    statuses: Counter[bytes] = attrs.field(factory=Counter)
    latencies_ms: list[float] = attrs.field(factory=list)
    """Open loop: each from the instant at which the request was due; closed loop: from when it was sent."""
    unanswered: int = 0
    """Open loop only: still under way when all should have been answered."""


class Wire:
    """One connection with at most one request under way."""

    __slots__ = ("_got", "_head", "_missing", "due", "socket", "status")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self.status = b""
        self._head = b""
        self._missing = -1

    def send(self, prepared: bytes) -> None:
        sent = self.socket.send(prepared)
        if sent != len(prepared):
            raise RuntimeError("the kernel does not take a small request at once")

    def is_answered(self) -> bool:
        """Read what is there; tell whether it was the rest of the answer."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise RuntimeError(f"the connection was closed behind {self._head[:200]!r}")
        if self._missing < 0:
            head = self._head + data if self._head else data
            end = head.find(b"\r\n\r\n")
            if end < 0:
                self._head = head
                return False
            self.status = head[9:12]
            lower = head[:end].lower()
            at = lower.find(_LENGTH)
            if at < 0:
                raise RuntimeError(f"an answer without a length: {head[:end]!r}")
            at += len(_LENGTH)
            stop = lower.find(b"\r", at)
            length = int(lower[at : stop if stop >= 0 else end])
            self._head = b""
            self._missing = end + 4 + length - len(head)
        else:
            self._missing -= len(data)
        if self._missing:
            return False
        self._missing = -1
        return True


def closed_loop(port: int, requests: Sequence[bytes], seconds: float, connections: int) -> Loaded:
    """Keep one request under way on each of the connections, going round ``requests``."""
    loaded, order = Loaded(), itertools.cycle(requests)
    wires = {wire.socket.fileno(): wire for wire in (Wire(port) for _ in range(connections))}
    epoll = select.epoll()
    try:
        for descriptor, wire in wires.items():
            epoll.register(descriptor, select.EPOLLIN)
            wire.due = time.monotonic()
            wire.send(next(order))
        begun = time.monotonic()
        end, under_way, statuses = begun + seconds, connections, loaded.statuses
        while under_way:
            ready = epoll.poll(PATIENCE)
            if not ready:
                raise RuntimeError(f"no answer for {PATIENCE:g} s, {under_way} requests under way")
            goes_on = time.monotonic() < end
            for descriptor, _ in ready:
                wire = wires[descriptor]
                if wire.is_answered():
                    now = time.monotonic()
                    loaded.latencies_ms.append((now - wire.due) * 1e3)
                    statuses[wire.status] += 1
                    if goes_on:
                        wire.due = now
                        wire.send(next(order))
                    else:
                        under_way -= 1
        loaded.seconds = time.monotonic() - begun
        loaded.answered = statuses.total()
        return loaded
    finally:
        epoll.close()
        for wire in wires.values():
            wire.socket.close()


def open_loop(port: int, requests: Sequence[bytes], seconds: float, rate: float) -> Loaded:
    """Send by a schedule that waits for nobody: what comes late pays from when it was due."""
    loaded, order = Loaded(), itertools.cycle(requests)
    idle: deque[Wire] = deque()
    busy: dict[socket.socket, Wire] = {}
    begun = time.monotonic()
    schedule = iter([begun + number / rate for number in range(int(seconds * rate))])
    due = next(schedule, None)
    end = begun + seconds + PATIENCE
    try:
        while due is not None or busy:
            now = time.monotonic()
            if now >= end:
                break
            if due is not None and due <= now:
                wire = idle.pop() if idle else Wire(port)
                wire.due = due
                wire.send(next(order))
                busy[wire.socket] = wire
                due = next(schedule, None)
                continue
            # `select` waits to the microsecond, `epoll` and `asyncio` to the millisecond.
            ready = select.select(busy, (), (), min(end, due or end) - now)[0]
            for one in ready:
                wire = busy[one]
                if wire.is_answered():
                    loaded.latencies_ms.append((time.monotonic() - wire.due) * 1e3)
                    loaded.statuses[wire.status] += 1
                    del busy[one]
                    idle.append(wire)
        loaded.seconds = time.monotonic() - begun
        loaded.answered, loaded.unanswered = loaded.statuses.total(), len(busy)
        return loaded
    finally:
        for wire in [*idle, *busy.values()]:
            wire.socket.close()


def percentiles(values: list[float], *parts: float) -> Iterator[float]:
    """Yield the value below which each part of them lies."""
    ordered = sorted(values)
    for part in parts:
        yield ordered[min(len(ordered) - 1, int(part * len(ordered)))]
