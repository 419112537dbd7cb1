"""Static services over HTTP: like any other to who reads, nobody's to change but the configuration's."""

import pytest

from econeura_daemon.core.settings import ServiceSettings
from econeura_daemon.registry.commands import declarations_of
from tests.support.api_world import open_world
from tests.support.inline_store import open_inline_store

STATIC = ServiceSettings(type="db", host="10.0.0.7", port=5432, id="db-1")


@pytest.fixture
async def world():
    async with open_inline_store() as store, open_world(store) as opened:
        await opened.services.registry.declare(declarations_of(STATIC, (), 30_000))
        yield opened


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/v1/services/db-1", None),
        ("POST", "/v1/services", {"id": "db-1", "type": "db", "host": "10.0.0.7", "port": 5432}),
        ("PUT", "/v1/services/db-1/endpoints", []),
    ],
)
async def test_changing_one_is_a_conflict_that_says_why(world, autojump_clock, method, path, body):
    before = (await world.client.get("/v1/services/db-1")).json()["data"]
    answer = await world.client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
    assert answer.json()["detail"] == (
        "The service 'db-1' is declared in the configuration ([[services]]): change it there"
    )
    assert (await world.client.get("/v1/services/db-1")).json()["data"] == before


async def test_it_is_listed_drained_and_renewed_like_any_other(world, autojump_clock):
    (listed,) = (await world.client.get("/v1/services?type=db")).json()["data"]["items"]
    assert (listed["id"], listed["static"], listed["ttlMs"]) == ("db-1", True, None)
    assert (await world.client.put("/v1/services/db-1/heartbeat")).status_code == 200
    assert (await world.client.put("/v1/services/db-1/drain")).json()["data"]["status"] == "draining"
    assert (await world.client.delete("/v1/services/db-1/drain")).json()["data"]["status"] != "draining"


async def test_why_a_name_is_kept_stands_in_its_reason(world, autojump_clock):
    named = ServiceSettings(type="web", host="web.example", port=80, id="web", resolve=True)
    registry = world.services.registry
    await registry.declare(declarations_of(named, ["10.0.0.1"], 30_000))
    registry.unresolved["web.example"] = "the name 'web.example' has no address"
    expected = "no probe has come back yet; its address is kept, for the name 'web.example' has no address"
    shown = (await world.client.get("/v1/services/web-10.0.0.1")).json()["data"]
    assert shown["statusReason"] == expected
