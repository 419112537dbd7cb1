"""POST of 400 bytes of JSON, parsed and echoed: our HTTP server beside those that one would otherwise take.

All servers run at once, each in its own process on the first cpu, and are measured in turn, round by round;
the load comes from the last cpu. Ours has on what the daemon has on: access rules, Host and Origin, request
ids, limits, shedding of load, metrics. The others have nothing of that.

    python -m benchmarks.http_server             five rounds, about two minutes
    python -m benchmarks.http_server --quick     one round
    python -m benchmarks.http_server --serve ours-hot --port 8000
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random

import orjson

from benchmarks.harness.client import Client, closed_loop
from benchmarks.harness.processes import Cores, accepts, cpu_seconds, free_port, running, wait_for
from benchmarks.harness.report import Spread, ratio, table

SYSTEMS = {
    "ours-hot": "ours, hot route",
    "ours-asgi": "ours, raw ASGI",
    "ours-quart": "ours, Quart route",
    "hypercorn-quart": "Hypercorn + Quart",
    "hypercorn-asgi": "Hypercorn, raw ASGI",
    "uvicorn-starlette": "uvicorn + Starlette",
}
GOALS = (
    ("ours-hot", "hypercorn-quart", 12.0),
    ("ours-hot", "uvicorn-starlette", 1.2),
    ("ours-quart", "hypercorn-quart", 2.5),
)
BODY = {
    "type": "workers.email_processed",
    "data": {
        "messageId": "AAMkAGI2TG93AAA=",
        "organizationId": "org_4711",
        "status": "processed",
        "summary": "x" * 250,
        "labels": ["invoice", "urgent"],
    },
}
_JSON = (b"content-type", b"application/json")


def _quart_app(*, in_task):
    from quart import Response, request
    from quart_trio import QuartTrio

    from econeura_daemon.api.requests import InTaskConnection

    app = QuartTrio(__name__)
    if in_task:
        app.asgi_http_class = InTaskConnection

    @app.post("/v1/events")
    async def echo():
        body = orjson.loads(await request.get_data(as_text=False))
        return Response(orjson.dumps(body), status=202, content_type="application/json")

    return app


async def _raw_app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    pieces = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = orjson.dumps(orjson.loads(b"".join(pieces)))
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _starlette_app():
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def echo(request: Request):
        body = orjson.loads(await request.body())
        return Response(orjson.dumps(body), status_code=202, media_type="application/json")

    return Starlette(routes=[Route("/v1/events", echo, methods=["POST"])])


def _serve_ours(app, hot, port):
    import trio

    from econeura_daemon.api import scope_of
    from econeura_daemon.core.clock import SystemClock
    from econeura_daemon.core.settings import HttpSettings
    from econeura_daemon.server import TokenFile, open_listeners, open_server
    from econeura_daemon.telemetry import Metrics

    async def main():
        settings = HttpSettings(bind=(f"127.0.0.1:{port}",))
        with tempfile.TemporaryDirectory() as folder:
            async with open_server(
                app,
                open_listeners(settings, {}, has_tokens=False),
                settings,
                clock=SystemClock(),
                rng=Random(1),
                tokens=TokenFile(Path(folder)),
                auth_required=False,
                scope_of=scope_of,
                telemetry=Metrics(),
                drain_timeout_ms=100,
                hot=hot,
            ):
                await trio.sleep_forever()

    trio.run(main)


def _hot_echo():
    from econeura_daemon.server import HotRoute, Response

    async def echo(request):
        return Response(202, orjson.dumps(orjson.loads(request.body)), [_JSON])

    return {("POST", "/v1/events"): HotRoute(echo, "/v1/events")}


def _serve_hypercorn(app, port):
    import hypercorn.trio
    import trio
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    config.keep_alive_max_requests = 2**31
    trio.run(hypercorn.trio.serve, app, config)


def serve(name: str, port: int) -> None:
    """Serve one system until ended."""
    logging.disable(logging.INFO)
    if name == "ours-hot":
        _serve_ours(_raw_app, _hot_echo(), port)
    elif name == "ours-asgi":
        _serve_ours(_raw_app, {}, port)
    elif name == "ours-quart":
        _serve_ours(_quart_app(in_task=True), {}, port)
    elif name == "hypercorn-quart":
        _serve_hypercorn(_quart_app(in_task=False), port)
    elif name == "hypercorn-asgi":
        _serve_hypercorn(_raw_app, port)
    else:
        import uvicorn

        uvicorn.run(
            _starlette_app(), port=port, loop="uvloop", http="httptools", access_log=False, log_level="error"
        )


async def _one_round(port: int, pid: int, seconds: float, connections: int, depth: int) -> dict[str, float]:
    client = Client("127.0.0.1", port)
    prepared = [client.prepare("POST", "/v1/events", BODY)]
    await closed_loop(client, prepared, seconds / 4, connections, depth=depth)
    cpu, began = cpu_seconds(pid), time.monotonic()
    sent = await closed_loop(client, prepared, seconds, connections, depth=depth)
    took, cpu = time.monotonic() - began, cpu_seconds(pid) - cpu
    if sent.refused:
        raise RuntimeError(f"answers that were not 202: {dict(sent.refused)}")
    return {"rate": sent.accepted / took, "cpu_us": cpu / sent.accepted * 1e6, "busy": cpu / took}


def measure(arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return every round's figures of every system."""
    cores = Cores.choose()
    names = arguments.systems.split(",")
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        systems = {}
        for name in names:
            port, log = free_port(), Path(folder) / f"{name}.log"
            command = ["-m", "benchmarks.http_server", "--serve", name, "--port", str(port)]
            process = stack.enter_context(running(command, log, cores.system))
            wait_for(lambda port=port: accepts(port), process, log)
            systems[name] = (port, process.pid)
        for _ in range(arguments.rounds):
            for name, (port, pid) in systems.items():
                figures = asyncio.run(
                    _one_round(port, pid, arguments.seconds, arguments.connections, arguments.depth)
                )
                rounds[name].append(figures)
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", choices=SYSTEMS, help="be one of the servers")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--depth", type=int, default=1, help="requests under way on each connection")
    parser.add_argument("--json", type=Path, help="write every round's figures there")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.port)
        return
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 5)
    arguments.seconds = arguments.seconds or (2.0 if arguments.quick else 3.0)
    rounds = measure(arguments)
    rows = [
        [SYSTEMS[name], *(Spread.of([r[key] for r in figures]).text(d) for key, d in _COLUMNS)]
        for name, figures in rounds.items()
    ]
    print(table(["", "requests/s", "CPU us/request", "busy"], rows))
    for ours, theirs, goal in GOALS:
        if ours in rounds and theirs in rounds:
            by_rate = ratio(rounds[ours], rounds[theirs], "rate").text(2)
            by_cpu = ratio(rounds[theirs], rounds[ours], "cpu_us").text(2)
            print(f"{SYSTEMS[ours]} against {SYSTEMS[theirs]}: x {by_rate}, by CPU x {by_cpu}; goal {goal}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rounds, indent=1))


_COLUMNS = (("rate", 0), ("cpu_us", 0), ("busy", 2))

if __name__ == "__main__":
    sys.exit(main())
