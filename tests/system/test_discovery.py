"""Ten real services are killed, stopped, drained and started at random: at every index the watchers' pictures are true.

The truth is the event log, which is committed together with each change: what any list showed at any index must be
a state that the log went through, later indexes no earlier states, and all lists of one index the same state.
"""

import time
from contextlib import AsyncExitStack
from datetime import datetime
from itertools import groupby, pairwise
from random import Random

import pytest
import trio

from tests.support.daemon import write_config
from tests.support.discovery_world import Follower, Poller, Service, World, make_services
from tests.support.waiting import until

LATE = 0.5
"""Seconds by which a long poll may tell of a change later than the stream, which goes another way, does."""
SETTLED = 15.0
"""Seconds after which everybody's status is what it should be: leases, probes and removal take at most 5 of them."""
MOURNED_TTL = 3
"""Seconds; of a service that dies together with the daemon."""
CONFIG = "[discovery]\nheartbeat_interval_ms = 1000\n"


def epoch(event):
    return datetime.fromisoformat(event["timestamp"]).timestamp()


async def one_deed(world, service, rng):
    """Do something to one service that can be done to it now."""
    if service.process is None:
        await service.start(world.daemon.state_dir)
        return
    if service.frozen:
        rng.choice((service.thaw, service.thaw, service.kill))()
        return
    deed = rng.choice(("kill", "kill", "leave", "freeze", "ill", "ill", "drain", "drain", "anew", "remove"))
    if deed == "kill":
        service.kill()
    elif deed == "leave":
        await service.leave()
    elif deed == "freeze":
        service.freeze()
    elif deed == "ill":
        service.turn_ill_or_well()
    elif deed == "anew":
        service.register_anew()
    elif deed == "drain":
        service.drained = not service.drained
        method = "PUT" if service.drained else "DELETE"
        await world.call(method, f"/v1/services/{service.id}/drain")
    else:
        await world.call("DELETE", f"/v1/services/{service.id}")


async def do_at_random(world, services, rng, seconds):
    with trio.move_on_after(seconds):
        while True:
            await trio.sleep(rng.uniform(0.02, 0.3))
            with trio.CancelScope(shield=True):
                await one_deed(world, rng.choice(services), rng)


async def come_to_rest(world, services, rng):
    """Leave some dead, two in maintenance, the rest well; return what becomes of each, by id."""
    for service in services:
        if service.frozen:
            service.thaw()
        if service.process is not None and service.ill:
            service.turn_ill_or_well()
    for service in rng.sample(services, 3):
        if service.process is not None:
            service.kill()
    living = [service for service in services if service.process is not None]
    for service in services:
        if service not in living and len(living) < 5:
            await service.start(world.daemon.state_dir)
            living.append(service)
    drained = living[:2]

    async def all_are_there():
        _, picture = await world.list()
        return all(service.id in picture for service in living)

    await until(all_are_there, SETTLED)
    for service in services:
        await world.call("PUT" if service in drained else "DELETE", f"/v1/services/{service.id}/drain")
    return {
        service.id: ("draining" if service in drained else "healthy") if service in living else "unhealthy"
        for service in services
    }


def assert_all_were_true(pollers, states):
    """Find for each answer the state that it shows; return its number, by poller and number of the answer."""
    answers = sorted(
        (
            (seen.index, number, turn)
            for number, one in enumerate(pollers)
            for turn, seen in enumerate(one.seen)
        ),
    )
    found, state = {}, 0
    for index, same in groupby(answers, key=lambda answer: answer[0]):
        shown = [(pollers[number], pollers[number].seen[turn].picture) for _, number, turn in same]
        begin = state
        while not all(poller.view(states[state]) == picture for poller, picture in shown):
            state += 1
            assert state < len(states), (
                f"at index {index} no state from {begin} on is what was shown: {shown}"
            )
        found[index] = state
    return found


def assert_none_came_late(poller, state_at, states, told):
    for before, after in pairwise(poller.seen):
        assert before.index <= after.index, "the index went back"
        if before.life != after.life:
            assert before.index < after.index, "an index of an earlier run was given out again"
            continue
        first, last = state_at[before.index], state_at[after.index]
        while first < last and any(
            poller.view(states[n]) == before.picture for n in range(first + 1, last + 1)
        ):
            first += 1  # there and back again, too quickly to be seen
        for number in range(first + 1, last + 1):
            if poller.view(states[number]) != before.picture:
                late = after.at - told[number - 1].at
                assert late < LATE, f"{poller.query} heard after {late:.1f} s of {told[number - 1].event}"
                break


async def all_events(world):
    """Return every event of the registry's from the log, oldest first."""
    found, cursor = [], None
    while True:
        more = f"&cursor={cursor}" if cursor else ""
        page = await world.call("GET", f"/v1/events?type=service.*&limit=250{more}")
        found += page["items"]
        cursor = page["nextCursor"]
        if cursor is None:
            return found[::-1]


@pytest.mark.rounds(short=12, soak=120)
@pytest.mark.timeout(300)
@pytest.mark.slow
async def test_at_every_index_the_picture_from_the_api_is_the_truth(tmp_path, rounds):
    rng = Random(20261124)
    world = World(write_config(tmp_path / "state", extra=CONFIG))
    services = make_services(tmp_path)
    mourned = Service({"id": "mourned", "type": "db", "ttlMs": MOURNED_TTL * 1000}, tmp_path)
    queries = (
        {},
        {"type": "web"},
        {"status": "healthy"},
        {"tag": "blue"},
        {"type": "db", "status": "unhealthy"},
    )
    pollers = [Poller(world, time.time, **query) for query in queries]
    follower = Follower(world, time.time)
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        for service in (*services, mourned):
            stack.callback(lambda service=service: service.process and service.kill())
        await world.begin(stack)
        for watcher in (*pollers, follower):
            nursery.start_soon(watcher.run)
        for service in (*services, mourned):
            await service.start(world.daemon.state_dir)
        await do_at_random(world, services, rng, rounds / 2)

        _, before = await world.list()
        assert before["mourned"][1] == "healthy"
        mourned.kill()
        await world.kill()
        await trio.sleep(MOURNED_TTL)  # by the wall clock its lease is over now
        await world.begin(stack)
        ready_at = time.time()
        _, after = await world.list()
        assert after["mourned"] == before["mourned"]
        await do_at_random(world, services, rng, rounds / 2)

        expected = await come_to_rest(world, services, rng)

        async def all_is_well():
            _, picture = await world.list()
            return all(
                (picture[key][1] == status if key in picture else status == "unhealthy")
                for key, status in expected.items()
            )

        await until(all_is_well, SETTLED)
        _, final = await world.list()

        async def the_stream_has_told_it():
            return follower.picture == final and all(
                poller.seen[-1].picture == poller.view(final) for poller in pollers
            )

        await until(the_stream_has_told_it, SETTLED)
        log = await all_events(world)
        nursery.cancel_scope.cancel()

    told = follower.told
    assert [one.event["id"] for one in told] == [event["id"] for event in log]
    state_at = assert_all_were_true(pollers, follower.states)
    for poller in pollers:
        assert {seen.life for seen in poller.seen} == {0, 1}
        assert_none_came_late(poller, state_at, follower.states, told)

    registered = {
        (event["data"]["service"]["id"], event["data"]["service"]["registeredAt"])
        for event in log
        if event["type"] == "service.registered"
    }
    for service in (*services, mourned):
        assert {(service.id, at) for at in service.acknowledged()} <= registered, "a registration was lost"
    [expiry] = [
        event
        for event in log
        if event["type"] == "service.status_changed" and event["data"]["service"]["id"] == "mourned"
    ]
    assert expiry["data"]["newStatus"] == "unhealthy"
    expired_after = epoch(expiry) - ready_at
    assert MOURNED_TTL / 2 < expired_after < 2 * MOURNED_TTL, "a restart grants one lease of grace"
    statuses = {event["data"]["newStatus"] for event in log if "newStatus" in event["data"]}
    assert statuses >= {"healthy", "unhealthy", "draining"}
    assert len(told) > 4 * rounds, "too little happened to prove anything"
