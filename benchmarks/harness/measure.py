"""One round at one point: latency at a fixed rate, then throughput, until all is delivered and recorded."""

import asyncio
import base64
import hmac
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import orjson
from standardwebhooks import Webhook

from benchmarks.harness.client import Client, closed_loop, open_loop
from benchmarks.harness.processes import cpu_seconds
from benchmarks.harness.report import full_commit_us
from benchmarks.harness.systems import SECRET, Target

PATIENCE = 30.0
"""Seconds without any progress after which a run is given up."""
BATCH = 100
"""Events a request of the batch variant."""
DATA = {
    "messageId": "AAMkAGI2TG93AAA=",
    "organizationId": "org_4711",
    "status": "processed",
    "priority": "normal",
    "result": {"category": "invoice", "language": "de", "confidence": 0.97, "attachments": 2, "draft": True},
    "summary": "An invoice of 1,299.00 EUR, due in fourteen days; the sender is a known supplier.",
}


@attrs.frozen
class Sinks:
    """The receivers' process, and the questions it answers."""

    pid: int
    urls: list[str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    @asynccontextmanager
    async def connected(cls, pid: int, urls: list[str], control: Path):
        reader, writer = await asyncio.open_unix_connection(control, limit=1 << 30)
        try:
            yield cls(pid, urls, reader, writer)
        finally:
            writer.close()

    async def ask(self, question: bytes) -> Any:
        self.writer.write(question + b"\n")
        return orjson.loads(await self.reader.readline())


@attrs.frozen(kw_only=True)
class Load:
    """How hard."""

    connections: int
    seconds: float
    rate: float
    latency_seconds: float
    batches: bool = False


async def one_round(target: Target, sinks: Sinks, load: Load, folder: Path) -> dict[str, Any]:
    """Measure once; numbers only. What a commit costs at present is tried in ``folder``."""
    disk = {"full_commit_us": full_commit_us(folder)}
    latency = await _latency(target, sinks, load) if load.latency_seconds else {}
    return disk | latency | await _throughput(target, sinks, load)


async def warm_up(target: Target, sinks: Sinks, load: Load) -> None:
    """Reach every sink and fill the caches; check a few deliveries' signatures on the way."""
    await sinks.ask(b"kept")
    delivered, before = await _delivered(target.client), await sinks.ask(b"count")
    sent = await closed_loop(target.client, _requests(target), min(1.0, load.seconds), load.connections)
    deliveries = sent.accepted * target.point.fan_out
    await _all_recorded(target, sinks, delivered + deliveries, before["requests"] + deliveries)
    kept = await sinks.ask(b"kept")
    if not kept:
        raise RuntimeError("nothing arrived in the warm-up")
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    for request in kept:
        Webhook(SECRET).verify(request["body"], request["headers"])
        expected = "sha256=" + hmac.new(key, request["body"].encode(), "sha256").hexdigest()
        if request["headers"]["x-webhook-signature"] != expected:
            raise RuntimeError(f"X-Webhook-Signature does not verify: {request}")


async def _latency(target: Target, sinks: Sinks, load: Load) -> dict[str, Any]:
    await sinks.ask(b"take")
    delivered, before = await _delivered(target.client), await sinks.ask(b"count")
    cpu = cpu_seconds(target.process.pid)
    sent = await open_loop(target.client, _requests(target), load.latency_seconds, load.rate)
    deliveries = sent.accepted * target.point.fan_out
    await _all_recorded(target, sinks, delivered + deliveries, before["requests"] + deliveries)
    cpu = cpu_seconds(target.process.pid) - cpu
    arrived = await sinks.ask(b"take")
    from_answer, from_schedule = [], []
    for key, at in arrived.items():
        event_id = key.partition(" ")[0]
        if event_id in sent.answered_at:
            from_answer.append(max(0, at - sent.answered_at[event_id]) / 1e6)
            from_schedule.append((at - sent.scheduled_at[event_id]) / 1e6)
    to_answer = [(at - sent.scheduled_at[event_id]) / 1e6 for event_id, at in sent.answered_at.items()]
    return {
        **_percentiles("answered_to_delivered_ms", from_answer),
        **_percentiles("scheduled_to_delivered_ms", from_schedule),
        **_percentiles("scheduled_to_answered_ms", to_answer),
        "latency_samples": len(from_answer),
        "latency_refused": sent.refused.total(),
        "latency_refused_by_status": dict(sent.refused),
        "cpu_us_an_event_at_rate": cpu * 1e6 / max(1, sent.accepted),
    }


async def _throughput(target: Target, sinks: Sinks, load: Load) -> dict[str, Any]:
    pid = target.process.pid
    delivered, before = await _delivered(target.client), await sinks.ask(b"count")
    cpu, load_cpu = cpu_seconds(pid), time.process_time() + cpu_seconds(sinks.pid)
    if load.batches:
        requests, events, depth = _batches(target), BATCH, 2
    else:
        requests, events, depth = _requests(target), 1, 1
    sent = await closed_loop(target.client, requests, load.seconds, load.connections, depth=depth)
    ingest_seconds = (time.monotonic_ns() - sent.started) / 1e9
    accepted = sent.accepted * events
    deliveries = accepted * target.point.fan_out
    arrived, recorded = await _all_recorded(
        target, sinks, delivered + deliveries, before["requests"] + deliveries
    )
    seconds = (recorded - sent.started) / 1e9
    cpu = cpu_seconds(pid) - cpu
    load_cpu = time.process_time() + cpu_seconds(sinks.pid) - load_cpu
    after = await sinks.ask(b"count")
    await sinks.ask(b"take")  # nobody asks for these arrivals: do not keep them
    return {
        "delivered_a_second": deliveries / seconds,
        "deliveries": deliveries,
        "seconds": seconds,
        "accepted_a_second": accepted / ingest_seconds,
        "until_last_arrival_seconds": (arrived - sent.started) / 1e9,
        "refused": sent.refused.total(),
        "refused_by_status": dict(sent.refused),
        "repeats": after["repeats"] - before["repeats"],
        "cpu_us_an_event": cpu * 1e6 / max(1, accepted),
        "system_core_busy": cpu / seconds,
        "load_core_busy": load_cpu / seconds,
    }


async def _all_recorded(target: Target, sinks: Sinks, delivered: int, requests: int) -> tuple[int, int]:
    """Wait for ``requests`` arrivals, then for ``delivered`` recorded; return when each was seen.

    The sinks are asked first: asking the system how far it is would be work for it.
    """
    progress, seen = time.monotonic(), -1
    while (count := (await sinks.ask(b"count"))["requests"]) < requests:
        progress, seen = _still(progress, seen, count)
        await asyncio.sleep(0.005)
    arrived, pause = time.monotonic_ns(), 0.002
    while (count := await _delivered(target.client)) < delivered:
        progress, seen = _still(progress, seen, count)
        await asyncio.sleep(pause)
        pause = min(0.05, pause * 1.5)
    return arrived, time.monotonic_ns()


def _still(progress: float, seen: int, count: int) -> tuple[float, int]:
    if count != seen:
        return time.monotonic(), count
    if time.monotonic() - progress > PATIENCE:
        raise RuntimeError(f"no delivery for {PATIENCE} s: {count} so far")
    return progress, seen


async def _delivered(client: Client) -> int:
    return (await client.json("GET", "/v1/webhooks/stats"))["deliveredDeliveries"]


def _requests(target: Target) -> list[bytes]:
    prepare = target.client.prepare
    return [prepare("POST", "/v1/events", {"type": t, "data": DATA}) for t in target.point.event_types]


def _batches(target: Target) -> list[bytes]:
    types = target.point.event_types
    return [
        target.client.prepare(
            "POST",
            "/v1/events/batch",
            {"events": [{"type": types[(first + n) % len(types)], "data": DATA} for n in range(BATCH)]},
        )
        for first in range(0, max(len(types), 1), BATCH)
    ]


def _percentiles(name: str, values: list[float]) -> dict[str, float | None]:
    values = sorted(values)
    if not values:
        return {f"{name}_{p}": None for p in ("p50", "p99", "max")}
    return {
        f"{name}_p50": values[int(0.5 * (len(values) - 1))],
        f"{name}_p99": values[int(0.99 * (len(values) - 1))],
        f"{name}_max": values[-1],
    }
