"""Who gets an attempt when some refuse, and what becomes of those that wait."""

from collections import Counter

import httpx
import pytest
import trio

from econeura_daemon.client import CircuitOpenError, UpstreamTimeoutError, UpstreamUnreachableError
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from econeura_daemon.resilience import BALANCERS
from tests.support.mesh_rig import answers, raises, refused, slow, world


@pytest.mark.parametrize("name", BALANCERS)
async def test_a_retry_goes_to_none_that_was_asked_while_there_is_another(name, autojump_clock):
    settings = MeshSettings(balancer=name, retries=3, circuit_breaker_threshold=1000)
    for seed in range(20):
        mesh = world(*"abcd", behaviours=dict.fromkeys("abcd", answers(503)), settings=settings, seed=seed)
        await mesh.call()
        assert sorted(mesh.asked) == list("abcd")


async def test_who_waited_for_a_slot_of_one_whose_breaker_opened_is_told_so_at_once(autojump_clock):
    settings = MeshSettings(max_concurrency=1, circuit_breaker_threshold=1, retries=0)
    mesh = world("a", behaviours={"a": slow(1, 500)}, settings=settings)
    results = Counter()

    async def call():
        try:
            results[(await mesh.call())[0]] += 1
        except CircuitOpenError as error:
            results[str(error).partition(": a is")[0]] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(call)
    assert results == {500: 1, "workers: every instance's breaker refuses": 2}
    assert trio.current_time() == 1
    mesh.assert_all_is_back()


async def test_it_may_go_better_when_the_first_breaker_begins_to_try_again(autojump_clock):
    settings = MeshSettings(retries=0, circuit_breaker_threshold=1)
    mesh = world("a", "b", behaviours=dict.fromkeys("ab", refused), settings=settings)
    while any(state.breaker.state is State.CLOSED for state in mesh.mesh.show("workers").states.values()):
        with pytest.raises(UpstreamUnreachableError):
            await mesh.call()
        await trio.sleep(1)
    with pytest.raises(CircuitOpenError) as caught:
        await mesh.call()
    first = min(state.breaker.statistics().until for state in mesh.service.states.values())
    assert caught.value.retry_after == pytest.approx(first - trio.current_time())


async def test_calls_wait_where_the_queue_is_shortest(autojump_clock):
    mesh = world("a", "b", behaviours=dict.fromkeys("ab", slow(1)), settings=MeshSettings(max_concurrency=1))
    async with trio.open_nursery() as nursery:
        for n in range(10):
            nursery.start_soon(mesh.call)
            await trio.testing.wait_all_tasks_blocked()
            waiting = [state.limiter.tasks_waiting for state in mesh.service.states.values()]
            assert sum(waiting) == max(0, n - 1)
            assert max(waiting) - min(waiting) <= 1
    assert trio.current_time() == 5
    mesh.assert_all_is_back()


async def test_a_caller_in_a_hurry_waits_for_half_of_its_time_at_least(autojump_clock):
    """Its time is less than twice what the instance takes, and still that may be enough."""
    mesh = world("a", behaviours={"a": slow(1)}, settings=MeshSettings(max_concurrency=1))
    await mesh.call()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mesh.call)
        await trio.sleep(0.4)
        assert await mesh.call(timeout=1.7) == (200, b"ok")
    mesh.assert_all_is_back()


async def test_how_an_attempt_ended_that_raised(autojump_clock):
    for error, attempts, drops in (
        (httpx.ConnectTimeout("no connection in time"), 4, 0),
        (httpx.ConnectError("refused"), 4, 0),
        (httpx.ReadTimeout("silence"), 1, 1),
        (httpx.RemoteProtocolError("no HTTP"), 1, 0),
    ):
        settings = MeshSettings(circuit_breaker_threshold=1000)
        mesh = world("a", behaviours={"a": raises(error)}, settings=settings)
        with pytest.raises((UpstreamUnreachableError, UpstreamTimeoutError)):
            await mesh.call("POST")
        limiter = mesh.service.states["a"].limiter
        assert (len(mesh.asked), limiter.statistics().drops) == (attempts, drops)


async def test_a_refusal_of_our_own_pool_is_no_failure_of_the_instance(autojump_clock):
    full = raises(httpx.PoolTimeout("too many wait already"))
    mesh = world("a", behaviours={"a": full}, settings=MeshSettings(circuit_breaker_threshold=1))
    with pytest.raises(UpstreamUnreachableError):
        await mesh.call("POST")
    assert len(mesh.asked) == 4  # nobody saw anything of it
    assert mesh.service.states["a"].breaker.state is State.CLOSED
    assert mesh.service.breaker.statistics().failures == 0
    mesh.behaviours["a"] = refused
    with pytest.raises((UpstreamUnreachableError, CircuitOpenError)):
        await mesh.call("POST")
    assert mesh.service.states["a"].breaker.state is State.OPEN
