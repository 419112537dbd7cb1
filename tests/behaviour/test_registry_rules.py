"""What replaces, removes, keeps and outranks what, in the registry, under a clock that jumps."""

import json
from itertools import product

import pytest
import trio

from econeura_daemon.core.instances import CheckBody, EndpointBody
from econeura_daemon.registry.model import Check, Health, Registration, Verdict, status_of
from econeura_daemon.registry.preserve import Preserve
from tests.support.clocks import TrioClock
from tests.support.inline_store import open_inline_store
from tests.support.registry_rig import FAIL, PASS, open_rig

CHECK = CheckBody(interval_ms=1000)
ENDPOINT = EndpointBody(endpoint="/e")


def switched(well):
    async def probe(said, _check):
        await trio.lowlevel.checkpoint()
        return PASS if well[said.id] else FAIL

    return probe


@pytest.mark.parametrize("draining", [False, True])
@pytest.mark.parametrize("lease", ["none", "live", "stale", "expired"])
@pytest.mark.parametrize("verdict", ["no check", None, *Verdict])
def test_draining_outranks_an_expired_lease_outranks_the_check_outranks_unknown(draining, lease, verdict):
    if verdict == "no check" and lease == "none":
        return  # it would have got a check
    said = Registration(
        id="a",
        name="a",
        type="web",
        host="h",
        port=1,
        ttl_ms=None if lease == "none" else 1000,
        check=None if verdict == "no check" else Check(),
    )
    health = Health(
        draining=draining,
        expired=lease == "expired",
        stale=lease == "stale",
        verdict=verdict if isinstance(verdict, Verdict) else None,
        reason="3 failures in a row: HTTP 503",
    )
    status, reason = status_of(health, said)
    if draining:
        assert (status, reason) == ("draining", "in maintenance: finishes what began, takes nothing new")
        return
    if lease == "expired":
        assert (status, reason) == ("unhealthy", "the lease ran out: no heartbeat for 1000 ms")
        return
    assert reason.startswith("kept without a heartbeat") == (lease == "stale")
    expected = {
        "no check": "healthy",
        None: "unknown",
        Verdict.HEALTHY: "healthy",
        Verdict.WARNING: "healthy",
        Verdict.UNHEALTHY: "unhealthy",
    }
    assert status == expected[verdict]


@pytest.mark.parametrize(
    ("changed", "keeps"),
    [
        ({}, True),
        ({"version": "2", "tags": ("x",), "metadata": {"a": 1}, "weight": 1, "ttl_ms": 60_000}, True),
        ({"port": 81}, False),
        ({"host": "127.0.0.2"}, False),
        ({"scheme": "https"}, False),
        ({"check": CheckBody(interval_ms=1000, path="/other")}, False),
    ],
)
async def test_registering_again_keeps_the_verdict_if_address_and_check_are_the_same(
    autojump_clock, changed, keeps
):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        await rig.register("a", check=CHECK)
        await trio.sleep(5)
        assert rig.status("a") == "healthy"
        again = await rig.register("a", **{"check": CHECK, **changed})
        assert again.status == ("healthy" if keeps else "unknown")
        events = await rig.events()
        assert events.count("service.registered") == 2
        assert events.count("service.status_changed") == (1 if keeps else 2)


async def test_registering_again_keeps_a_drain_ends_an_expiry_and_drops_endpoints(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        await rig.register("a", ttl_ms=10_000, endpoints=(ENDPOINT,))
        await rig.registry.drain("a", draining=True)
        await trio.sleep(11)
        assert rig.registry.get("a").health.expired
        again = await rig.register("a", ttl_ms=10_000)
        assert (again.health.draining, again.health.expired) == (True, False)
        assert again.endpoints == ()
        assert (await rig.registry.drain("a", draining=False)).status == "healthy"
        await trio.sleep(9)
        assert rig.status("a") == "healthy", "the lease is the new one's"


async def test_an_instance_is_healthy_only_if_its_lease_is_live_and_its_check_passes(autojump_clock):
    well = {"a": True}
    async with open_inline_store() as store, open_rig(store, TrioClock(), switched(well)) as rig:
        await rig.register("a", ttl_ms=10_000, check=CHECK)
        for lease, check in product([True, False], repeat=2):
            well["a"] = check
            for _ in range(15):
                await trio.sleep(1)
                if lease:
                    rig.registry.renew("a")
            expected = "healthy" if lease and check else "unhealthy"
            assert rig.status("a") == expected, (lease, check)
            rig.registry.renew("a")


async def test_one_that_was_unhealthy_for_long_enough_without_a_break_is_removed(autojump_clock):
    well = {"a": False, "b": False, "c": False}
    async with open_inline_store() as store, open_rig(store, TrioClock(), switched(well)) as rig:
        for key in well:
            await rig.register(key, check=CHECK, deregister_after_ms=60_000)
        await rig.registry.drain("c", draining=True)
        await trio.sleep(50)
        well["b"] = True
        await trio.sleep(5)
        well["b"] = False
        await trio.sleep(3)
        assert rig.ids() == ["a", "b", "c"]
        await trio.sleep(5)
        assert rig.ids() == ["b", "c"], "b was well in between, c is in maintenance"
        await trio.sleep(60)
        assert rig.ids() == ["c"]
        await rig.registry.drain("c", draining=False)
        await trio.sleep(61)
        assert rig.ids() == []
        events = await rig.log.page(type="service.deregistered", limit=10)
    told = [json.loads(event.body)["data"] for event in reversed(events)]
    assert [one["service"]["id"] for one in told] == ["a", "b", "c"]
    assert {one["reason"] for one in told} == {
        "unhealthy for 60000 ms: the first probe failed: HTTP 503 'db down'",
        "unhealthy for 60000 ms: 3 failures in a row: HTTP 503 'db down'",
    }


async def test_what_else_changes_of_an_unhealthy_one_does_not_put_its_removal_off(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock(), switched({"a": False})) as rig:
        await rig.register("a", check=CHECK, deregister_after_ms=60_000)
        await trio.sleep(50)
        await rig.registry.put_endpoints("a", (ENDPOINT,))
        await trio.sleep(12)
        assert rig.ids() == []


async def test_a_removal_that_is_being_written_spares_who_became_well_or_registered_anew(autojump_clock):
    well = {"a": True, "b": False}
    async with open_inline_store() as store, open_rig(store, TrioClock(), switched(well)) as rig:
        first = {key: await rig.register(key, check=CHECK) for key in well}
        await trio.sleep(5)
        again = await rig.register("b", check=CHECK)
        assert again.status == "unhealthy", "its address is the same"
        for key, instance in first.items():
            rig.registry.settler.want_removed(key, instance.generation, "late")
        await trio.sleep(1)
        assert rig.ids() == ["a", "b"]
        rig.registry.settler.want_removed("b", again.generation, "in time")
        await trio.sleep(1)
        assert rig.ids() == ["a"]


async def test_endpoints_that_are_what_they_were_are_no_news(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        await rig.register("a", ttl_ms=30_000)
        indexes = []
        for endpoints in ((ENDPOINT,), (ENDPOINT,), (), ()):
            await rig.registry.put_endpoints("a", endpoints)
            indexes.append(rig.registry.index)
        assert [index - indexes[0] for index in indexes] == [0, 0, 1, 1]
        assert len(await rig.events("service.endpoints_registered")) == 2


async def test_deregistering_one_touches_no_other(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        for key in "abcd":
            await rig.register(key, ttl_ms=30_000, check=CHECK, type="web" if key < "c" else "db")
        await trio.sleep(10)
        before = {key: rig.registry.get(key) for key in "bcd"}
        await rig.registry.deregister("a")
        assert {key: rig.registry.get(key) for key in "bcd"} == before
        await trio.sleep(19)
        assert rig.statuses() == {"healthy"}
        assert rig.ids() == ["b", "c", "d"]
        assert await rig.events("service.deregistered") == ["service.deregistered"]


async def test_preserve_mode_keeps_who_answers_says_so_and_ends_for_all(autojump_clock):
    well = {str(number): number < 5 for number in range(10)}
    async with open_inline_store() as store, open_rig(store, TrioClock(), switched(well)) as rig:
        for key in well:
            await rig.register(key, ttl_ms=30_000)
        await trio.sleep(31)
        assert [rig.status(str(number)) for number in range(10)] == ["healthy"] * 5 + ["unhealthy"] * 5
        kept = rig.registry.get("0")
        assert kept.health.stale
        assert kept.to_json()["stale"] is True
        assert kept.reason.startswith("kept without a heartbeat")
        rig.registry.renew("1")
        await trio.sleep(1)
        assert not rig.registry.get("1").health.stale
        for _ in range(7):
            await trio.sleep(9)
            rig.registry.renew("1")
        assert not rig.registry.leases.preserve_mode()
        assert rig.ids() == sorted(well)
        assert [key for key in well if rig.status(key) == "healthy"] == ["1"]


async def test_a_long_lease_is_kept_for_five_minutes_and_not_for_as_long_as_it_was(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        for number in range(5):
            await rig.register(str(number), ttl_ms=3_600_000)
        await trio.sleep(3601)
        assert rig.registry.get("0").health.stale
        rig.registry.renew("1")
        await trio.sleep(298)
        assert rig.statuses() == {"healthy"}
        await trio.sleep(3)
        assert [rig.status(str(number)) for number in range(5)] == [
            "unhealthy",
            "healthy",
            *["unhealthy"] * 3,
        ]


@pytest.mark.parametrize(("dying", "leases"), [(3, 20), (2, 6), (4, 4)])
async def test_few_leases_that_run_out_are_no_reason_to_doubt(autojump_clock, dying, leases):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        for number in range(leases):
            await rig.register(str(number), ttl_ms=30_000)
        for _ in range(8):
            for number in range(dying, leases):
                rig.registry.renew(str(number))
            await trio.sleep(5)
            assert not rig.registry.leases.preserve_mode()
        assert [rig.status(str(number)) for number in range(dying)] == ["unhealthy"] * dying


@pytest.mark.parametrize(
    ("expiring", "leases", "is_active"),
    [
        (3, 20, False),
        (3, 19, True),
        (2, 5, False),
        (3, 5, True),
        (4, 4, False),
        (15, 100, False),
        (16, 100, True),
    ],
)
def test_preserve_mode_begins_above_15_percent_with_three_of_five_within_one_interval(
    expiring, leases, is_active
):
    at_once = Preserve(10).expire(0.0, expiring, leases - expiring)
    assert at_once.active(0) is is_active
    one_by_one, apart = Preserve(10), Preserve(10)
    for number in range(expiring):
        one_by_one = one_by_one.expire(number / 10, 1, leases - number - 1)
        apart = apart.expire(number * 10.0, 1, leases - number - 1)
    assert one_by_one.active(expiring / 10) is is_active
    assert not apart.active(expiring * 10)


async def test_leases_that_are_kept_do_not_make_those_that_run_out_look_few(autojump_clock):
    async with open_inline_store() as store, open_rig(store, TrioClock()) as rig:
        for number in range(45):
            await rig.register(str(number), ttl_ms=30_000)
        await trio.sleep(0.5)
        for second in range(57):
            for number in range(40, 45 if second <= 25 else 41):
                rig.registry.renew(str(number))
            await trio.sleep(1)
            if second != 54:  # that is when the four run out
                assert rig.registry.leases.preserve_mode() == (29 <= second < 49 or second > 54), second
        assert rig.registry.get("44").health.stale


def test_preserve_mode_ends_after_five_minutes_even_if_leases_go_on_running_out():
    preserve, active = Preserve(10), []
    for second in range(1200):
        preserve = preserve.expire(float(second), 6, 12)
        active.append(preserve.active(second))
    assert sum(active) == 300
    assert not any(active[301:]), "not before things have been normal for an interval"
    assert preserve.expire(1300.0, 6, 12).active(1300)
