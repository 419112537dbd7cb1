"""One HTTP client, so many requests at once, round all the hosts; every client makes the same requests.

Run: ``-m benchmarks.rivals.http_callers CALLER``; reads ``{urls, concurrency, seconds, authority, server}`` as JSON
from standard input; ``server`` is a process's id. Calls every host once, then counts for ``seconds``, and prints what
came of it as JSON.
"""

import asyncio
import itertools
import json
import resource
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from typing import Any

from benchmarks.harness.processes import cpu_seconds

BODY = b'{"id":"evt_","type":"bench.t1","data":{"text":"' + b"x" * 350 + b'"}}'
HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "benchmark",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "webhook-id": "evt_0191f0f0f0f0f0f0",
    "webhook-timestamp": "1764000000",
    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    "X-Webhook-Event": "bench.t1",
}
Call = Callable[[int], Awaitable[None]]


def trusted(plan: dict[str, Any]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=plan["authority"])


@asynccontextmanager
async def open_ours(plan: dict[str, Any]):
    from econeura_daemon.core.settings import WebhookSettings
    from econeura_daemon.wire import Limits, open_transport

    settings = WebhookSettings(allowed_networks=(ip_network("127.0.0.0/8"),))
    async with open_transport(settings, make_context=lambda: trusted(plan), limits=Limits()) as over:
        yield over


@asynccontextmanager
async def ours_prepared(plan: dict[str, Any]):
    import httpx

    from econeura_daemon.wire import Target, header_lines, request_line

    class Answer:
        def begin(self, status, _headers):
            assert status == 200

        def add(self, _part):
            return True

    prepared = []
    for text in plan["urls"]:
        url = httpx.URL(text)
        headers = {"Host": url.netloc.decode(), **HEADERS}
        lines = header_lines((name.encode(), value.encode()) for name, value in headers.items())
        prepared.append((Target.of(url), request_line(b"POST", url.raw_path) + lines))
    async with open_ours(plan) as over:

        async def call(n: int) -> None:
            target, head = prepared[n]
            head = b"%bContent-Length: %d\r\n" % (head, len(BODY))
            await over.post(target, head, BODY, Answer(), connect_timeout=5)

        yield call


@asynccontextmanager
async def ours_httpx(plan: dict[str, Any]):
    import httpx

    urls = [httpx.URL(url) for url in plan["urls"]]
    async with open_ours(plan) as over:

        async def call(n: int) -> None:
            response = await over.handle_async_request(
                httpx.Request("POST", urls[n], content=BODY, headers=HEADERS)
            )
            assert response.status_code == 200
            await response.aread()

        yield call


@asynccontextmanager
async def httpx_clients(plan: dict[str, Any]):
    import httpx

    context = trusted(plan)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(verify=context, trust_env=False))
            for _ in plan["urls"]
        ]

        async def call(n: int) -> None:
            response = await clients[n].post(plan["urls"][n], content=BODY, headers=HEADERS)
            assert response.status_code == 200

        yield call


@asynccontextmanager
async def aiohttp_session(plan: dict[str, Any]):
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0, ssl=trusted(plan))
    async with aiohttp.ClientSession(connector=connector) as session:

        async def call(n: int) -> None:
            async with session.post(plan["urls"][n], data=BODY, headers=HEADERS) as response:
                assert response.status == 200
                await response.read()

        yield call


async def warm_up(call: Call, numbers: Iterator[int]) -> None:
    for n in numbers:
        await call(n)


async def keep_calling(call: Call, numbers: Iterator[int], until: float) -> int:
    done = 0
    while time.perf_counter() < until:
        await call(next(numbers))
        done += 1
    return done


def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def begin(plan: dict[str, Any]) -> tuple[float, float, float]:
    return cpu_seconds(plan["server"]), used(), time.perf_counter()


def result(plan: dict[str, Any], done: int, begun: tuple[float, float, float]) -> dict[str, float]:
    server, cpu, began = begun
    seconds = time.perf_counter() - began
    return {
        "requests": done,
        "seconds": seconds,
        "cpu_seconds": used() - cpu,
        "server_seconds": cpu_seconds(plan["server"]) - server,
    }


async def in_trio(opened: Any, plan: dict[str, Any]) -> dict[str, float]:
    import trio

    urls, concurrency, total = plan["urls"], plan["concurrency"], 0
    async with opened(plan) as call:

        async def work(until: float) -> None:
            nonlocal total
            done = await keep_calling(call, numbers, until)
            total += done

        once = iter(range(len(urls)))
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(warm_up, call, once)
        numbers = itertools.cycle(range(len(urls)))
        for seconds in (plan["seconds"] / 4, plan["seconds"]):
            begun, total = begin(plan), 0
            async with trio.open_nursery() as nursery:
                for _ in range(concurrency):
                    nursery.start_soon(work, begun[-1] + seconds)
        return result(plan, total, begun)


async def in_asyncio(opened: Any, plan: dict[str, Any]) -> dict[str, float]:
    urls, concurrency, total = plan["urls"], plan["concurrency"], 0
    async with opened(plan) as call:
        once = iter(range(len(urls)))
        await asyncio.gather(*(warm_up(call, once) for _ in range(16)))
        numbers = itertools.cycle(range(len(urls)))
        for seconds in (plan["seconds"] / 4, plan["seconds"]):
            begun = begin(plan)
            total = sum(
                await asyncio.gather(
                    *(keep_calling(call, numbers, begun[-1] + seconds) for _ in range(concurrency))
                )
            )
        return result(plan, total, begun)


def main(caller: str) -> None:
    import trio
    import uvloop

    plan = json.load(sys.stdin)
    match caller:
        case "ours":
            got = trio.run(in_trio, ours_prepared, plan)
        case "ours-httpx":
            got = trio.run(in_trio, ours_httpx, plan)
        case "httpx":
            got = trio.run(in_trio, httpx_clients, plan)
        case "aiohttp":
            got = asyncio.run(in_asyncio(aiohttp_session, plan))
        case "aiohttp-uvloop":
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                got = runner.run(in_asyncio(aiohttp_session, plan))
    print(json.dumps(got))


if __name__ == "__main__":
    main(sys.argv[1])
