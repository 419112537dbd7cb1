"""Static services: the registry is as the configuration says, by address and by name, whatever happens."""

import logging
from contextlib import asynccontextmanager
from ipaddress import ip_address

import attrs
import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.core.errors import ConflictError, StoreUnavailableError
from econeura_daemon.core.instances import CheckBody, CheckKind, EndpointBody
from econeura_daemon.core.jsons import loads
from econeura_daemon.core.settings import DiscoverySettings, ServiceSettings
from econeura_daemon.registry import Declared, Query, RegisterService
from econeura_daemon.wire.resolver import open_resolver
from tests.support.clocks import TrioClock
from tests.support.inline_store import open_inline_store
from tests.support.registry_rig import FAIL, PASS, open_rig

SETTINGS = DiscoverySettings(resolve_interval_ms=30_000)
ONE = ServiceSettings(type="db", host="10.0.0.7", port=5432, id="db-1")
TWO = ServiceSettings(type="db", host="10.0.0.8", port=5432, id="db-2")
NAMED = ServiceSettings(type="web", host="Web.example.", port=80, id="web", resolve=True)


class Names:
    """A resolver of the test's: ``answers`` are addresses, an error in words, or an event to hang on."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked = []

    async def __call__(self, host):
        await trio.lowlevel.checkpoint()
        self.asked.append((host, trio.current_time()))
        answer = self.answers[host]
        if isinstance(answer, trio.Event):
            await answer.wait()
            answer = self.answers[host] = []
        if isinstance(answer, str):
            raise httpx.ConnectError(answer)
        return [ip_address(one) for one in answer]


async def no_names(host):
    raise AssertionError(f"nobody asked for {host!r} to be resolved")


@asynccontextmanager
async def open_declared(rig, *services, resolve=no_names):
    declared = Declared(rig.registry, resolve, SETTINGS, services)
    async with trio.open_nursery() as nursery:
        await nursery.start(declared.run)
        yield declared
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened(*services, resolve=no_names, probe=None):
    async with (
        open_inline_store() as store,
        open_rig(store, TrioClock(), probe) as rig,
        open_declared(rig, *services, resolve=resolve) as declared,
    ):
        yield store, rig, declared


def ids(rig):
    return sorted(one.id for members in rig.registry.snapshot().types.values() for one in members)


def hosts(rig):
    return sorted(one.registration.host for one in rig.registry.snapshot().resolve("web"))


async def told(rig, pattern):
    """Return the data of the events that match, oldest first."""
    return [loads(one.body)["data"] for one in reversed(await rig.log.page(type=pattern, limit=250))]


async def test_it_is_there_from_the_start_and_looks_like_one_that_registered(autojump_clock):
    said = {"check": CheckBody(kind=CheckKind.TCP), "tags": ("a", "b", "a"), "metadata": {"zone": 1}}
    service = attrs.evolve(ONE, endpoints=(EndpointBody(endpoint="/x"),), version="1", **said)
    async with opened(service) as (_, rig, _declared):
        await rig.registry.register(
            RegisterService(type="db", host="10.0.0.7", port=5432, id="registered", version="1", **said)
        )
        await trio.sleep(1)
        static, registered = (rig.registry.shown(rig.registry.get(key)) for key in ("db-1", "registered"))
        assert static.pop("static")
        for one in (static, registered):
            for key in ("id", "name", "registeredAt", "lastHeartbeat"):
                del one[key]
        assert static == registered
        assert static["status"] == "healthy"
        assert [
            one.instance.id for one in rig.registry.find_endpoints(description=None, method=None, type=None)
        ] == ["db-1"]


async def test_checks_alone_tell_how_it_is_and_it_is_never_removed(autojump_clock):
    results = [PASS, FAIL, FAIL, FAIL]

    async def probe(_said, _check):
        await trio.lowlevel.checkpoint()
        return results.pop(0) if results else FAIL

    async with opened(ONE, probe=probe) as (_, rig, _declared):
        await trio.sleep(1)
        assert rig.status("db-1") == "healthy"
        assert rig.registry.renew("db-1")["ttlMs"] is None
        await trio.sleep(300)
        assert rig.status("db-1") == "unhealthy"
        rig.registry.renew("db-1")
        await trio.sleep(7200)
        assert rig.status("db-1") == "unhealthy"
        assert await rig.events("service.deregistered") == []


async def test_nobody_but_the_configuration_changes_it_except_for_a_drain(autojump_clock):
    async with opened(ONE) as (_, rig, _declared):
        with pytest.raises(ConflictError, match="'db-1' is declared in the configuration"):
            await rig.registry.deregister("db-1")
        with pytest.raises(ConflictError):
            await rig.register("db-1")
        with pytest.raises(ConflictError):
            await rig.registry.put_endpoints("db-1", ())
        assert (await rig.registry.drain("db-1", draining=True)).status.value == "draining"


async def test_a_restart_keeps_verdict_and_drain_of_what_stayed_and_says_nothing_about_it(autojump_clock):
    clock = TrioClock()
    async with open_inline_store() as store:
        async with open_rig(store, clock) as rig, open_declared(rig, ONE, TWO):
            await trio.sleep(1)
            await rig.registry.drain("db-2", draining=True)
            before = [rig.registry.get(key) for key in ("db-1", "db-2")]
            events = await rig.events()

        async def hangs(_said, _check):
            await trio.sleep_forever()

        async with open_rig(store, clock, hangs) as rig, open_declared(rig, ONE, TWO):
            await trio.sleep(1)
            assert [rig.registry.get(key) for key in ("db-1", "db-2")] == before
            assert [rig.status(key) for key in ("db-1", "db-2")] == ["healthy", "draining"]
            assert await rig.events() == events


async def test_what_is_gone_from_the_file_is_deregistered_at_the_next_start(autojump_clock):
    clock = TrioClock()
    async with open_inline_store() as store:
        async with open_rig(store, clock) as rig, open_declared(rig, ONE, TWO):
            await rig.register("registered")
        async with open_rig(store, clock) as rig, open_declared(rig, TWO):
            assert ids(rig) == ["db-2", "registered"]
            (gone,) = await told(rig, "service.deregistered")
            assert gone["service"]["id"] == "db-1"
            assert gone["reason"] == "the configuration declares it no more"


async def test_a_reload_adds_removes_and_changes_and_leaves_the_rest_alone(autojump_clock):
    probed = []

    async def probe(said, _check):
        probed.append(said.id)
        await trio.lowlevel.checkpoint()
        return PASS

    async with opened(ONE, TWO, probe=probe) as (_, rig, declared):
        await trio.sleep(1)
        stays = rig.registry.get("db-1")
        probed.clear()
        third = attrs.evolve(ONE, id="db-3", host="10.0.0.9")
        declared.use((ONE, attrs.evolve(TWO, weight=7), third))
        await wait_all_tasks_blocked()
        assert ids(rig) == ["db-1", "db-2", "db-3"]
        assert rig.registry.get("db-1") is stays
        changed = rig.registry.get("db-2")
        assert (changed.registration.weight, changed.status.value) == (7, "healthy"), (
            "its address is the same"
        )
        await trio.sleep(1)
        assert set(probed) == {"db-2", "db-3"}
        declared.use((attrs.evolve(ONE, port=1),))
        await wait_all_tasks_blocked()
        assert ids(rig) == ["db-1"]
        assert rig.status("db-1") == "unknown", "what was found out was about another address"
        assert [one["service"]["id"] for one in await told(rig, "service.deregistered")] == ["db-2", "db-3"]


async def test_it_takes_an_id_from_a_registrant_who_is_told_when_he_comes_again(autojump_clock, caplog):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        await rig.register("db-1", ttl_ms=30_000)
        await rig.registry.drain("db-1", draining=True)
        async with open_declared(rig, ONE):
            assert "replaces it: db-1" in caplog.text
            assert rig.registry.shown(rig.registry.get("db-1"))["host"] == "10.0.0.7"
            assert rig.status("db-1") == "draining"
            rig.registry.renew("db-1")
            with pytest.raises(ConflictError):
                await rig.register("db-1", ttl_ms=30_000)
            await rig.registry.drain("db-1", draining=False)
            await trio.sleep(100)
            assert rig.status("db-1") == "healthy", "it has no lease that could run out"


async def test_a_store_in_trouble_delays_what_a_reload_says_and_loses_nothing(autojump_clock):
    async with opened(ONE) as (store, rig, declared):
        store.trouble = StoreUnavailableError("gone")
        declared.use((TWO,))
        await trio.sleep(10)
        assert ids(rig) == ["db-1"]
        store.trouble = None
        await trio.sleep(2)
        assert ids(rig) == ["db-2"]


async def test_each_address_of_a_name_is_an_instance_probed_for_the_name(autojump_clock):
    probed = set()

    async def probe(said, _check):
        probed.add((said.id, said.host, said.server_name))
        await trio.lowlevel.checkpoint()
        return PASS

    names = Names(web_example=["10.0.0.1", "2001:db8::1", "10.0.0.1"])
    async with opened(NAMED, ONE, resolve=names, probe=probe) as (_, rig, _declared):
        assert ids(rig) == ["db-1"], "what needs no look-up is there before any"
        await trio.sleep(1)
        assert ids(rig) == ["db-1", "web-10.0.0.1", "web-2001:db8::1"]
        assert {
            ("web-10.0.0.1", "10.0.0.1", "web.example"),
            ("web-2001:db8::1", "2001:db8::1", "web.example"),
        } < probed
        assert {rig.registry.get(key).registration.name for key in ids(rig)} == {"db-1", "web"}


async def test_an_address_that_goes_is_deregistered_and_one_that_comes_is_there_at_the_next_look(
    autojump_clock,
):
    names = Names(web_example=["10.0.0.1", "10.0.0.2"])
    async with opened(NAMED, resolve=names) as (_, rig, _declared):
        await trio.sleep(1)
        stays = rig.registry.get("web-10.0.0.2")
        names.answers["web.example"] = ["10.0.0.3", "10.0.0.2"]
        await trio.sleep(28)
        assert hosts(rig) == ["10.0.0.1", "10.0.0.2"]
        await trio.sleep(2)
        assert hosts(rig) == ["10.0.0.2", "10.0.0.3"]
        assert rig.registry.get("web-10.0.0.2") is stays
        (gone,) = await told(rig, "service.deregistered")
        assert gone["reason"] == "the name 'web.example' has this address no more"
        await trio.sleep(120)
        assert [time - names.asked[0][1] for _, time in names.asked] == [0, 30, 60, 90, 120, 150]


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("the name 'web.example' cannot be resolved: try again", "cannot be resolved: try again"),
        ([], "has no address"),
        (trio.Event(), "was not resolved within 5 s"),
    ],
)
async def test_a_look_up_that_fails_keeps_what_is_known_and_says_so(autojump_clock, caplog, trouble, why):
    caplog.set_level(logging.INFO)
    names = Names(web_example=["10.0.0.1", "10.0.0.2"], other_example=["10.1.0.1"])
    other = attrs.evolve(NAMED, host="other.example", id="other")
    async with opened(NAMED, other, resolve=names) as (_, rig, _declared):
        await trio.sleep(1)
        index = rig.registry.index
        names.answers["web.example"] = trouble
        await trio.sleep(100)
        assert hosts(rig) == ["10.0.0.1", "10.0.0.2", "10.1.0.1"]
        assert rig.registry.index == index, "it wakes nobody"
        shown = rig.registry.shown(rig.registry.get("web-10.0.0.1"))
        assert (shown["status"], why in shown["statusReason"]) == ("healthy", True)
        assert (
            "its address is kept"
            not in rig.registry.shown(rig.registry.get("other-10.1.0.1"))["statusReason"]
        )
        assert sum(why in line for line in caplog.messages) == 1, "it is told once"
        names.answers["web.example"] = ["10.0.0.2"]
        await trio.sleep(35)
        assert hosts(rig) == ["10.0.0.2", "10.1.0.1"]
        assert "kept" not in rig.registry.shown(rig.registry.get("web-10.0.0.2"))["statusReason"]
        assert "the name 'web.example' is resolved again" in caplog.messages


async def test_a_restart_without_a_resolver_goes_on_with_what_was_known(autojump_clock):
    clock = TrioClock()
    async with open_inline_store() as store:
        names = Names(web_example=["10.0.0.1", "10.0.0.2"])
        async with open_rig(store, clock) as rig, open_declared(rig, NAMED, resolve=names):
            await trio.sleep(1)
            await rig.registry.drain("web-10.0.0.2", draining=True)
        names.answers["web.example"] = "no network"
        async with open_rig(store, clock) as rig, open_declared(rig, NAMED, resolve=names):
            await trio.sleep(100)
            assert hosts(rig) == ["10.0.0.1", "10.0.0.2"]
            assert rig.status("web-10.0.0.2") == "draining"
            assert await rig.events("service.deregistered") == []


async def test_a_name_that_is_declared_no_more_is_not_asked_for_and_not_complained_of(autojump_clock):
    names = Names(web_example="no network")
    async with opened(NAMED, resolve=names) as (_, rig, declared):
        await trio.sleep(1)
        assert list(rig.registry.unresolved) == ["web.example"]
        declared.use((attrs.evolve(NAMED, resolve=False),))
        await trio.sleep(100)
        assert ids(rig) == ["web"]
        assert rig.registry.unresolved == {}
        assert len(names.asked) == 1


async def test_a_reload_takes_effect_while_a_name_server_hangs(autojump_clock):
    hanging = trio.Event()
    names = Names(web_example=hanging)
    async with opened(NAMED, resolve=names) as (_, rig, declared):
        await trio.sleep(7)
        declared.use((NAMED, ONE))
        await wait_all_tasks_blocked()
        assert ids(rig) == ["db-1"]


async def test_an_id_that_is_written_wins_over_one_that_is_made_of_an_address(autojump_clock):
    names = Names(web_example=["10.0.0.1"])
    written = attrs.evolve(ONE, id="web-10.0.0.1")
    async with opened(NAMED, written, resolve=names) as (_, rig, _declared):
        await trio.sleep(1)
        assert ids(rig) == ["web-10.0.0.1"]
        assert rig.registry.get("web-10.0.0.1").type == "db"


async def test_the_systems_resolver_finds_this_machine():
    with trio.fail_after(30):
        async with (
            open_resolver() as resolve,
            opened(attrs.evolve(NAMED, host="localhost"), resolve=resolve) as (_, rig, _declared),
        ):
            await rig.registry.watch(Query("web"), rig.registry.index, 10)
            assert set(hosts(rig)) & {"127.0.0.1", "::1"}
            assert set(hosts(rig)) <= {"127.0.0.1", "::1"}
