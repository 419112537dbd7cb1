"""Answers: their bodies, their ends, and what their callers forget."""

from contextlib import suppress

import httpx
import pytest
import trio

from econeura_daemon.client import MeshError
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from tests.support.mesh_rig import answers, refused, well, world

BROKEN = answers(200, parts=[b"half", httpx.ReadError("reset")])


async def opened(mesh):
    """Fail until the breaker of the instance opens, and wait until it tries again."""
    mesh.behaviours["a"] = refused
    for _ in range(5):
        with suppress(MeshError):
            await mesh.call()
    await trio.sleep(70)
    mesh.asked.clear()
    return mesh.service.states["a"].breaker


async def test_bodies_that_break_off_while_a_breaker_comes_back_slowly_leave_nothing_held(autojump_clock):
    mesh = world("a", settings=MeshSettings(retries=0))
    breaker = await opened(mesh)
    mesh.behaviours["a"] = well
    for _ in range(3):
        await mesh.call()
    mesh.behaviours["a"] = BROKEN
    answered = []
    while len(answered) < 12:
        with suppress(MeshError):
            answered.append(await mesh.begin())
        await trio.sleep(0.01)
    assert breaker.statistics().until is not None  # it admits a part of all calls, by chance
    for answer in answered:
        assert await answer.more() == b"half"
        with pytest.raises(httpx.ReadError):
            await answer.more()
    assert breaker.statistics().failures == 12 or breaker.state is State.OPEN
    mesh.assert_all_is_back()


async def test_a_trial_whose_body_breaks_off_has_failed(autojump_clock):
    mesh = world("a", settings=MeshSettings(retries=0))
    breaker = await opened(mesh)
    mesh.behaviours["a"] = BROKEN
    with pytest.raises(httpx.ReadError):
        await mesh.call()
    assert breaker.state is State.OPEN
    assert breaker.statistics().reason == "a trial failed: connection lost, in the body of an answer"
    mesh.assert_all_is_back()


async def test_a_body_that_breaks_off_says_nothing_of_a_breaker_that_has_opened_and_closed_since(
    autojump_clock,
):
    mesh = world("a", settings=MeshSettings(retries=0), behaviours={"a": BROKEN})
    answer = await mesh.begin()
    breaker = await opened(mesh)
    mesh.behaviours["a"] = well
    for _ in range(3):
        await mesh.call()
    assert await answer.more() == b"half"
    with pytest.raises(httpx.ReadError):
        await answer.more()
    assert (breaker.state, breaker.statistics().failures) == (State.CLOSED, 0)
    mesh.assert_all_is_back()
