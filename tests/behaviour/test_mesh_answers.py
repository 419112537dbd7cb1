"""Answers: their bodies, their ends, and what their callers forget."""

from contextlib import suppress

import httpx
import pytest
import trio

from econeura_daemon.client import MeshError, UpstreamTimeoutError
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from tests.support.mesh_rig import answers, hang, refused, well, world

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


async def test_a_body_that_breaks_off_counts_against_the_instance(autojump_clock):
    mesh = world("a", behaviours={"a": BROKEN})
    for _ in range(5):
        with pytest.raises(httpx.ReadError):
            await mesh.call()
        mesh.assert_all_is_back()
    # Each head was a success in between, so there is no row of failures; the rate finds it out.
    assert mesh.service.states["a"].breaker.statistics().failures == 5


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


async def test_an_answer_that_its_caller_forgets_is_said_and_given_back(autojump_clock):
    mesh = world("a")
    answer = await mesh.begin()
    with pytest.warns(ResourceWarning, match="<Answer 200 of a> was neither read to its end nor closed"):
        del answer
    mesh.assert_all_is_back()


async def test_closing_an_answer_twice_or_after_its_end_gives_nothing_back_twice(autojump_clock):
    mesh = world("a", behaviours={"a": answers(200, parts=[b"x", b"y"])})
    one, other = await mesh.begin(), await mesh.begin()
    one.close()
    one.close()
    assert mesh.service.in_flight == 1
    assert [await other.more() for _ in range(3)] == [b"x", b"y", b""]
    other.close()
    mesh.assert_all_is_back()


async def test_a_whole_answer_is_there_in_time_or_it_is_the_instances_failure(autojump_clock):
    mesh = world("a", behaviours={"a": answers(200, parts=[20.0, b"x"] * 9)})
    answer = await mesh.begin(is_whole=True)
    assert await answer.more() == b"x"
    with pytest.raises(UpstreamTimeoutError, match="a did not bring its answer to an end in time"):
        await answer.more()
    assert trio.current_time() == 30
    assert mesh.service.states["a"].breaker.statistics().failures == 1
    mesh.assert_all_is_back()


async def test_a_whole_answer_that_a_caller_in_a_hurry_does_not_get_is_nobodys_failure(autojump_clock):
    mesh = world("a", behaviours={"a": answers(200, parts=[20.0, b"x"] * 9)})
    answer = await mesh.begin(is_whole=True, timeout=12)
    with pytest.raises(UpstreamTimeoutError):
        await answer.more()
    assert trio.current_time() == 12
    assert mesh.service.states["a"].breaker.statistics().failures == 0
    mesh.assert_all_is_back()


async def test_a_stream_lasts_as_long_as_it_goes_on_coming(autojump_clock):
    mesh = world("a", behaviours={"a": answers(200, parts=[20.0, b"x"] * 9)})
    assert await mesh.call() == (200, b"x" * 9)
    assert trio.current_time() == 180


async def test_calls_whose_callers_left_are_told_among_the_last_ones(autojump_clock):
    mesh = world("a", behaviours={"a": hang})
    with trio.move_on_after(5):
        await mesh.call()
    (one,) = mesh.mesh.recent
    assert (one.status, one.problem, one.seconds) == (None, None, 5)
    assert [(made.service_id, str(made.outcome)) for made in one.attempts] == [
        ("a", "cancelled by the caller")
    ]
