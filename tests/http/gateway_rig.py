"""The gateway between real sockets: a server in front of it, an instance of `mesh_upstream` behind it."""

import json
from contextlib import asynccontextmanager

import trio

from econeura_daemon.api import find_passage, scope_of
from econeura_daemon.core.settings import MeshSettings, Settings
from econeura_daemon.registry import RegisterService
from econeura_daemon.server import Principal, Scope
from tests.http.server_rig import Client, serving
from tests.support.api_world import open_stored_world
from tests.support.mesh_upstream import open_upstream

PATIENCE = 30


class Tokens:
    def authenticate(self, text, now):
        scopes = {"eco_reader": [Scope.READ], "eco_publisher": [Scope.PUBLISH]}.get(text)
        return None if scopes is None else Principal(text, frozenset(scopes))


class Rig:
    def __init__(self, world, server, upstream):
        self.world = world
        self.server = server
        self.upstream = upstream
        self.connect = server.connect

    async def register(self, name, port=None, **more):
        command = RegisterService(
            id=name, type="workers", host="127.0.0.1", port=port or self.upstream.port, ttl_ms=60_000, **more
        )
        await self.world.services.registry.register(command)

    async def ask(self, method, path, body=b"", *headers, **reading):
        async with Client(await self.connect()) as client:
            await client.send(raw(method, path, body, *headers))
            return await client.answer(method=method, **reading)

    @property
    def service(self):
        return self.world.services.mesh.services()["workers"]

    async def all_is_back(self):
        with trio.fail_after(PATIENCE):
            while self.service.in_flight:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
        state = self.service.states["w1"]
        assert (state.limiter.borrowed, state.member.in_flight) == (0, 0)
        assert state.breaker.statistics().in_flight == 0


def raw(method, path, body=b"", *headers):
    length = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost:3001", *length, *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    found = json.loads(answer.body)
    assert found["instance"] == answer.headers["x-request-id"]
    return answer.status, found["type"].removeprefix("/problems/")


@asynccontextmanager
async def open_rig(folder, *, workers=None, **serve):
    """Open the gateway with one instance, ``w1``; ``serve``: further arguments of `serving`."""
    settings = Settings(mesh={"workers": workers or MeshSettings(timeout_ms=3000)})
    async with (
        open_upstream() as upstream,
        open_stored_world(folder, settings=settings) as world,
        serving(
            world.app, scope_of=scope_of, find_passage=find_passage(world.services), tokens=Tokens(),
            max_body_bytes=1024, **serve,
        ) as server,
    ):  # fmt: skip
        opened = Rig(world, server, upstream)
        await opened.register("w1")
        yield opened
