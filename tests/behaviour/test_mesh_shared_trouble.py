"""Breakers that open for what befell most instances at once do not wait as long as that of a single one."""

from contextlib import suppress

import pytest
import trio

from econeura_daemon.client import CircuitOpenError, MeshError, Observer, Told
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from tests.support.mesh_rig import instance, refused, world

ONCE = MeshSettings(retries=0, balancer="round_robin")


async def fail_until_open(mesh, *names):
    mesh.behaviours |= dict.fromkeys(names, refused)
    with trio.fail_after(1):
        while not all(mesh.service.states[name].breaker.state is State.OPEN for name in names):
            with suppress(MeshError):
                await mesh.call()


def seconds_left(mesh):
    now = trio.current_time()
    states = mesh.service.states
    return {
        key: round(one.breaker.statistics().until - now)
        for key, one in states.items()
        if one.breaker.state is State.OPEN
    }


async def begun(*names, **more):
    mesh = world(*names, settings=ONCE, **more)
    assert await mesh.call() == (200, b"ok")
    return mesh


async def test_all_that_opened_together_are_tried_again_after_five_seconds(autojump_clock):
    mesh = await begun("a", "b", "c")
    await fail_until_open(mesh, "a", "b", "c")
    assert seconds_left(mesh) == {"a": 5, "b": 5, "c": 5}
    with pytest.raises(CircuitOpenError) as caught:
        await mesh.call()
    assert caught.value.retry_after == pytest.approx(5, abs=0.1)
    mesh.behaviours.clear()
    await trio.sleep(5.1)
    for _ in range(9):
        assert await mesh.call() == (200, b"ok")
    mesh.assert_all_is_back()


async def test_those_that_opened_before_most_did_are_tried_with_them(autojump_clock):
    mesh = await begun("a", "b", "c")
    await fail_until_open(mesh, "a")
    assert 54 <= seconds_left(mesh)["a"] <= 66
    await trio.sleep(10)
    await fail_until_open(mesh, "b")
    assert seconds_left(mesh) == {"a": 5, "b": 5}


async def test_the_breaker_of_a_minority_keeps_its_minute(autojump_clock):
    mesh = await begun(*"abcdefghij")
    await fail_until_open(mesh, "c", "g")
    assert all(54 <= left <= 66 for left in seconds_left(mesh).values())


async def test_the_breaker_of_a_single_instance_keeps_its_minute(autojump_clock):
    mesh = await begun("a")
    await fail_until_open(mesh, "a")
    assert 54 <= seconds_left(mesh)["a"] <= 66


async def test_instances_that_drain_are_nowhere_to_go_to(autojump_clock):
    mesh = await begun("a", "b", "c", "d")
    mesh.instances = tuple(instance(name, draining=name in "cd") for name in "abcd")
    assert await mesh.call() == (200, b"ok")
    await fail_until_open(mesh, "a", "b")
    assert seconds_left(mesh) == {"a": 5, "b": 5}


async def test_a_shorter_time_that_is_configured_stays(autojump_clock):
    settings = MeshSettings(retries=0, balancer="round_robin", circuit_breaker_open_ms=1000)
    mesh = world("a", "b", settings=settings)
    await mesh.call()
    await fail_until_open(mesh, "a", "b")
    now = trio.current_time()
    assert all(one.breaker.statistics().until - now <= 1.1 for one in mesh.service.states.values())


async def test_what_is_told_of_a_hastened_breaker_is_the_hastened_time(autojump_clock):
    told = []
    note = Told(breaker=lambda _service, key, phase: told.append((key, phase.state, phase.until)))
    mesh = await begun("a", "b", observer=Observer(told=note))
    mesh.behaviours |= {"a": refused, "b": refused}
    for _ in range(10):
        with pytest.raises(MeshError):
            await mesh.call()
    at = trio.current_time()
    (first, second) = [one for one in told if one[0] is not None]
    assert first[2] - at == pytest.approx(60, rel=0.1)
    assert second[1:] == (State.OPEN, at + 5)


async def test_a_service_that_stays_down_is_tried_every_five_seconds_and_no_more(autojump_clock):
    mesh = await begun("a", "b")
    await fail_until_open(mesh, "a", "b")
    mesh.asked.clear()
    for _ in range(600):
        await trio.sleep(0.1)
        with pytest.raises(MeshError):
            await mesh.call()
    assert len(mesh.asked) <= 2 * 12 + 2
    mesh.behaviours.clear()
    await trio.sleep(5.1)
    for _ in range(6):  # three trials close each; then they admit more and more, for ten seconds
        assert await mesh.call() == (200, b"ok")
    await trio.sleep(10)
    for _ in range(9):
        assert await mesh.call() == (200, b"ok")
