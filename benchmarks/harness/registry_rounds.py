"""One round of each kind at one registry; numbers only."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.harness.processes import cpu_seconds, rss_bytes
from benchmarks.harness.registries import (
    WATCHED,
    WATCHED_INSTANCES,
    Registry,
    send_all,
    type_of,
)
from benchmarks.harness.watching import Watchers, rearmed

EXTRA = 500
"""Registrations whose cost is taken at each size; they are deregistered again."""
FILLERS = 16
"""Registrants at once."""


async def fill(registry: Registry, start: int, end: int) -> None:
    """Register instances ``start`` to ``end``."""
    await _spread(registry, [registry.register(n, type_of(n)) for n in range(start, end)])


async def fill_watched(registry: Registry) -> None:
    await _spread(registry, [registry.register(n, WATCHED) for n in range(WATCHED_INSTANCES)])


async def registrations(registry: Registry, size: int) -> dict[str, Any]:
    """What one more costs where there are ``size``."""
    extra = range(size, size + EXTRA)
    cpu, began = cpu_seconds(registry.process.pid), time.monotonic()
    await fill(registry, extra.start, extra.stop)
    seconds, cpu = time.monotonic() - began, cpu_seconds(registry.process.pid) - cpu
    await _spread(registry, [registry.deregister(n, type_of(n)) for n in extra])
    return {"registrations_a_second": EXTRA / seconds, "cpu_us_a_registration": cpu * 1e6 / EXTRA}


async def heartbeats(registry: Registry, size: int, rate: float, seconds: float) -> dict[str, Any]:
    """All renew in turn, ``rate`` a second in all, by a schedule that waits for nobody."""
    requests = [registry.renew(n, type_of(n)) for n in range(size)]
    used, figures = await _at_rate(registry, requests, rate, seconds)
    return {"heartbeat_core_share": used, **_named("heartbeat_ms", figures)}


async def watched_changes(registry: Registry, watchers: Watchers, count: int, changes: int) -> dict[str, Any]:
    """Change one of the watched instances, again and again: until the last byte of the last notification."""
    firsts, lasts, each, answered = [], [], [], []
    cpu = cpu_seconds(registry.process.pid)
    load = time.process_time()
    for turn in range(changes):
        await rearmed(count)
        watchers.expect(count)
        began = time.monotonic_ns()
        await send_all(registry, registry.change(turn % WATCHED_INSTANCES, WATCHED, time.monotonic_ns()))
        answered.append((time.monotonic_ns() - began) / 1e6)
        arrivals = [(at - began) / 1e6 for at in await watchers.take()]
        each += arrivals
        firsts.append(min(arrivals))
        lasts.append(max(arrivals))
    return {
        "write_answered_ms_p50": percentile(answered, 0.5),
        "first_byte_ms_p50": percentile(firsts, 0.5),
        **_named("notified_ms", each),
        **_named("last_ms", lasts),
        "cpu_ms_a_change": (cpu_seconds(registry.process.pid) - cpu) * 1e3 / changes,
        "load_cpu_ms_a_change": (time.process_time() - load) * 1e3 / changes,
    }


async def unrelated(
    registry: Registry, watchers: Watchers | None, size: int, rate: float, seconds: float
) -> dict[str, Any]:
    """Heartbeats and changes of other services, half and half: who watches hears nothing."""
    turns = itertools.count()
    requests: list[bytes] = []
    for n in range(size):
        requests.append(registry.renew(n, type_of(n)))
        requests += registry.change(n, type_of(n), next(turns))
    before = watchers.answers if watchers else 0
    used, figures = await _at_rate(registry, requests, rate, seconds)
    return {
        "unrelated_core_share": used,
        **_named("unrelated_ms", figures),
        "false_wakes": watchers.answers - before if watchers else 0,
    }


async def memory(registry: Registry) -> int:
    """Resident bytes, once it has come to rest."""
    await asyncio.sleep(1.5)
    return rss_bytes(registry.process.pid)


async def idle(registry: Registry, seconds: float) -> float:
    """The share of a core that it uses with nobody asking."""
    cpu = cpu_seconds(registry.process.pid)
    await asyncio.sleep(seconds)
    return (cpu_seconds(registry.process.pid) - cpu) / seconds


async def _at_rate(
    registry: Registry, requests: Sequence[bytes], rate: float, seconds: float
) -> tuple[float, list[float]]:
    took: list[float] = []

    async def one(request: bytes, due: float) -> None:
        status, body = await registry.client.send(request)
        if not 200 <= status < 300:
            raise RuntimeError(f"{registry.title} answered {status}: {body[:300]!r} to {request[:80]!r}")
        took.append((time.monotonic() - due) * 1e3)

    order = itertools.cycle(requests)
    cpu, began = cpu_seconds(registry.process.pid), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * rate)):
            due = began + number / rate
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            group.create_task(one(next(order), due))
    ended = time.monotonic()
    return (cpu_seconds(registry.process.pid) - cpu) / (ended - began), took


async def _spread(registry: Registry, deeds: Sequence[Sequence[bytes]]) -> None:
    left = iter(deeds)

    async def some() -> None:
        for requests in left:
            await send_all(registry, requests)

    async with asyncio.TaskGroup() as group:
        for _ in range(FILLERS):
            group.create_task(some())


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[int(part * (len(values) - 1))]


def _named(name: str, values: Sequence[float]) -> dict[str, float]:
    return {
        f"{name}_p50": percentile(values, 0.5),
        f"{name}_p99": percentile(values, 0.99),
        f"{name}_max": max(values),
    }
