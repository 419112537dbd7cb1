"""What a user would otherwise write as a gateway: Quart, Hypercorn, an httpx client a host, answers streamed through.

No limits, no breakers, no retries, no metrics, no trace: the next upstream in turn, its answer as it comes.

Run: ``quart_proxy.py --port PORT --upstream URL --upstream URL …``.
"""

import argparse
import asyncio
import itertools
from contextlib import AsyncExitStack

import httpx
import hypercorn.asyncio
from hypercorn.config import Config
from quart import Quart, Response, request

HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(clients: list[httpx.AsyncClient]) -> Quart:
    app = Quart(__name__)
    turns = itertools.cycle(clients)

    @app.route("/v1/mesh/<service>/<path:path>", methods=METHODS)
    async def proxy(service: str, path: str) -> Response:  # noqa: ARG001 - there is one
        headers = [(k, v) for k, v in request.headers if k.lower() not in HOP and k.lower() != "host"]
        headers.append(("X-Forwarded-For", request.remote_addr or "unknown"))
        client = next(turns)
        upstream = await client.send(
            client.build_request(
                request.method,
                f"/{path}",
                params=request.args,
                headers=headers,
                content=await request.get_data(as_text=False),
            ),
            stream=True,
        )

        async def parts():
            try:
                async for part in upstream.aiter_raw():
                    yield part
            finally:
                await upstream.aclose()

        kept = [(k, v) for k, v in upstream.headers.multi_items() if k.lower() not in HOP]
        return Response(parts(), status=upstream.status_code, headers=dict(kept))

    return app


async def main(port: int, upstreams: list[str]) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    config.keep_alive_max_requests = 2**31
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=one, limits=limits, timeout=30, trust_env=False)
            )
            for one in upstreams
        ]
        await hypercorn.asyncio.serve(create_app(clients), config)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", action="append", required=True)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.port, arguments.upstream))
