"""Answers that say they are short are taken whole before they are passed on; others are passed on as they come."""

import httpx
import pytest
import trio

from econeura_daemon.client import UpstreamTimeoutError, UpstreamUnreachableError
from econeura_daemon.client.short_answers import SHORT
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from tests.support.mesh_rig import Sent, answers, world

RESET = httpx.ReadError("reset")


def says(length):
    return [(b"Content-Length", b"%d" % length)]


def breaking_off(length):
    return answers(200, parts=[b"half", RESET], headers=says(length))


async def test_one_that_breaks_off_is_an_attempt_that_failed(autojump_clock):
    settings = MeshSettings(balancer="round_robin")
    mesh = world("a", "b", behaviours={"a": breaking_off(8)}, settings=settings)
    for _ in range(20):
        assert await mesh.call() == (200, b"ok")
    assert mesh.asked.count("a") == 5
    assert mesh.service.states["a"].breaker.state is State.OPEN
    mesh.assert_all_is_back()


async def test_one_that_breaks_off_and_may_not_be_asked_for_again_is_told_as_a_failure(autojump_clock):
    mesh = world("a", behaviours={"a": breaking_off(8)})
    with pytest.raises(UpstreamUnreachableError, match="reset"):
        await mesh.call("POST")
    mesh.assert_all_is_back()


async def test_one_that_stops_in_the_middle_is_given_up_with_the_attempt(autojump_clock):
    mesh = world("a", settings=MeshSettings(timeout_ms=3000, retries=0))
    mesh.behaviours["a"] = answers(200, parts=[b"half", 60], headers=says(8))
    with pytest.raises(UpstreamTimeoutError):
        await mesh.call()
    assert trio.current_time() == 1
    mesh.assert_all_is_back()


@pytest.mark.parametrize("headers", [says(SHORT + 1), [], [(b"content-length", b"nonsense")]])
async def test_a_longer_one_or_one_of_unknown_length_is_passed_on_as_it_comes(headers, autojump_clock):
    mesh = world("a", behaviours={"a": answers(200, parts=[b"first", 5, RESET], headers=headers)})
    answer = await mesh.begin()
    assert trio.current_time() == 0
    assert await answer.more() == b"first"
    with pytest.raises(httpx.ReadError):
        await answer.more()
    mesh.assert_all_is_back()


async def test_a_slow_reader_of_one_keeps_no_instance_waiting(autojump_clock):
    sent = Sent(parts=[b"a" * SHORT], headers=says(SHORT))

    async def answers_at_once(_call):
        await trio.lowlevel.checkpoint()
        return sent

    mesh = world("a", behaviours={"a": answers_at_once})
    answer = await mesh.begin()
    assert sent.ended
    assert await answer.more() == b"a" * SHORT
    assert await answer.more() == b""
    mesh.assert_all_is_back()
