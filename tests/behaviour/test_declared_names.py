"""Static services by name: each address is an instance, and a look-up that fails takes nothing away."""

import logging

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.registry import Query
from econeura_daemon.wire.resolver import open_resolver
from tests.support.clocks import TrioClock
from tests.support.declared_rig import NAMED, ONE, Names, hosts, ids, open_declared, opened, told
from tests.support.inline_store import open_inline_store
from tests.support.registry_rig import PASS, open_rig


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


async def test_of_a_name_with_very_many_addresses_256_are_used_which_the_log_tells(autojump_clock, caplog):
    names = Names(web_example=[f"10.0.{one >> 8}.{one & 255}" for one in range(300)])
    async with opened(NAMED, resolve=names) as (_, rig, _declared):
        await trio.sleep(1)
        first = hosts(rig)
        await trio.sleep(60)
        assert hosts(rig) == first, "and they are the same ones each time"
    assert len(first) == 256
    assert "the name 'web.example' has 300 addresses: 256 are used" in caplog.messages


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
