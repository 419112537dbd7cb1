"""The daemon in its own registry: where it says that it is, for how long, and what becomes of an earlier entry."""

import socket
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from econeura_daemon._version import VERSION
from econeura_daemon.api.app import ROUTES
from econeura_daemon.core.errors import StoreUnavailableError
from econeura_daemon.core.settings import DiscoverySettings, HttpSettings
from econeura_daemon.daemon.itself import Itself
from econeura_daemon.server import open_listeners
from tests.support.clocks import TrioClock
from tests.support.inline_store import open_inline_store
from tests.support.registry_rig import open_rig

URLS = ["http://127.0.0.1:3001"]
DEFAULTS = DiscoverySettings()


def itself_in(rig, settings=DEFAULTS):
    return Itself(rig.registry, settings, rig.log.passing, TrioClock(), Random(1))


@asynccontextmanager
async def beating(rig, urls=URLS, settings=DEFAULTS):
    async with trio.open_nursery() as nursery:
        await nursery.start(itself_in(rig, settings).run, urls)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("urls", "settings", "place"),
    [
        (URLS, {}, ("http", "127.0.0.1", 3001)),
        (["https://[::1]:40001"], {}, ("https", "::1", 40001)),
        (
            ["unix:/run/e.sock", "http://10.0.0.5:3001", "http://127.0.0.1:3002"],
            {},
            ("http", "10.0.0.5", 3001),
        ),
        (["http://0.0.0.0:3001"], {}, ("http", "127.0.0.1", 3001)),
        (["http://[::]:3001"], {}, ("http", "::1", 3001)),
        (["http://0.0.0.0:3001"], {"advertised_host": "d.example"}, ("http", "d.example", 3001)),
        (URLS, {"advertised_host": "Bücher.Example"}, ("http", "xn--bcher-kva.example", 3001)),
        (["unix:/run/e.sock"], {}, None),
        (["unix:/run/e.sock"], {"advertised_host": "d.example"}, None),
        ([], {}, None),
    ],
)
async def test_it_says_where_it_can_be_reached(autojump_clock, urls, settings, place):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        said = itself_in(rig, DiscoverySettings(**settings)).registration(urls)
        assert (None if said is None else (said.scheme, said.host, said.port)) == place


async def test_the_port_is_the_real_one_of_a_socket_that_was_opened_or_passed(autojump_clock):
    with socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        bind = (f"fd://{passed.fileno()}", "127.0.0.1:0")
        listeners = open_listeners(HttpSettings(bind=bind), {}, has_tokens=False)
        passed.detach()
        urls = [listener.url for listener in listeners]
        opened = listeners[1].socket.getsockname()[1]
        for listener in listeners:
            listener.close()
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        assert itself_in(rig).registration(urls).port == port
        assert itself_in(rig).registration(urls[1:]).port == opened


async def test_it_is_registered_with_what_it_offers_and_keeps_its_lease(autojump_clock):
    settings = DiscoverySettings(service_type="daemon", heartbeat_interval_ms=1000)
    async with (
        open_inline_store() as store,
        open_rig(store, TrioClock()) as rig,
        beating(rig, settings=settings),
    ):
        shown = rig.registry.shown(rig.registry.get("api-main"))
        assert (shown["type"], shown["ttlMs"], shown["check"]) == ("daemon", 3000, None)
        assert (shown["version"], shown["status"]) == (VERSION, "healthy")
        offered = {(one.method, one.endpoint) for one in rig.registry.get("api-main").endpoints}
        assert offered == {(route.method, route.path) for route in ROUTES}
        is_open = {one.endpoint for one in rig.registry.get("api-main").endpoints if not one.requires_auth}
        assert is_open == {"/livez", "/readyz", "/v1/workers/webhooks/workers", "/v1/webhooks/workers"}
        await trio.sleep(3600)
        assert rig.status("api-main") == "healthy"
        assert await rig.events() == ["service.registered", "service.endpoints_registered"]


async def test_it_registers_anew_where_somebody_removed_or_replaced_it(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig, beating(rig):
        before = rig.registry.get("api-main").registration
        await rig.registry.deregister("api-main")
        await trio.sleep(11)
        assert rig.registry.get("api-main").registration == before
        await rig.register("api-main", host="10.6.6.6")
        await trio.sleep(11)
        assert rig.registry.get("api-main").registration == before


async def test_it_goes_on_beating_while_the_store_is_in_trouble(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig, beating(rig):
        await rig.registry.deregister("api-main")
        store.trouble = StoreUnavailableError("gone")
        await trio.sleep(60)
        store.trouble = None
        await trio.sleep(11)
        assert rig.status("api-main") == "healthy"


async def test_a_restart_at_the_same_place_is_no_news_and_one_elsewhere_replaces_it(autojump_clock):
    clock = TrioClock()
    async with open_inline_store() as store:
        async with open_rig(store, clock) as rig, beating(rig):
            events = await rig.events()
        await trio.sleep(1)
        async with open_rig(store, clock) as rig, beating(rig):
            assert await rig.events() == events
        await trio.sleep(1)
        async with open_rig(store, clock) as rig, beating(rig, ["http://127.0.0.1:4000"]):
            assert rig.registry.get("api-main").registration.port == 4000
        await trio.sleep(1)
        async with open_rig(store, clock) as rig, beating(rig, ["unix:/run/e.sock"]):
            assert [one.id for one in rig.registry.snapshot().resolve("api")] == []
            assert (await rig.events())[-1] == "service.deregistered"
