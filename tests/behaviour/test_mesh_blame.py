"""Who is held to blame for what becomes of a call: the instance, the service, or nobody."""

from contextlib import suppress
from random import Random

import httpx
import pytest
import trio

from econeura_daemon.client import (
    ConcurrencyLimitError,
    KeptBody,
    MeshError,
    NoHealthyInstanceError,
    UpstreamTimeoutError,
)
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from tests.support.mesh_rig import Sent, answers, hang, reset, slow, world

PATIENT = MeshSettings(circuit_breaker_threshold=1000)


async def seconds_until_second_attempt(headers, status=503):
    seen = []

    async def behave(_call):
        await trio.lowlevel.checkpoint()
        seen.append(trio.current_time())
        return Sent() if len(seen) > 1 else Sent(status, headers=headers)

    mesh = world("a", behaviours={"a": behave})
    begun = trio.current_time()
    status, _ = await mesh.call()
    return status, [at - begun for at in seen]


DATE = (b"Date", b"Tue, 24 Nov 2026 02:00:00 GMT")


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_that_is_a_date_is_waited_for_by_the_answers_own_clock(status, autojump_clock):
    until = (b"Retry-After", b"Tue, 24 Nov 2026 02:00:09 GMT")
    assert await seconds_until_second_attempt([until, DATE], status) == (200, [0, 9])


@pytest.mark.parametrize("asked", [b"Tue, 24 Nov 2026 02:00:30 GMT", b"30", b"9" * 400])
async def test_a_retry_after_beyond_the_deadline_fails_at_once(asked, autojump_clock):
    assert await seconds_until_second_attempt([(b"Retry-After", asked), DATE]) == (503, [0])


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Retry-After", b"soon"), DATE],
        [(b"Retry-After", b"Tue, 24 Nov 2026 02:00:09 GMT")],
        [(b"Retry-After", b"Tue, 24 Nov 2026 02:00:09"), DATE],
        [(b"Retry-After", b"Tue, 24 Nov 9999999999 02:00:09 GMT"), DATE],
        [(b"Retry-After", b"Tue, 24 Nov 2026 01:59:00 GMT"), DATE],
        [(b"Retry-After", b"\xff"), DATE],
        [(b"Retry-After", b""), DATE],
        [(b"Retry-After", b"-9"), DATE],
    ],
)
async def test_a_retry_after_that_says_nothing_of_use_is_passed_over(headers, autojump_clock):
    status, seen = await seconds_until_second_attempt(headers)
    assert (status, len(seen)) == (200, 2)
    assert seen[1] <= 0.1


@pytest.mark.parametrize("latencies", [(1, 1), (0.5, 1.5)])
async def test_twice_as_many_calls_as_can_be_answered_leave_half_of_them_answered(latencies, autojump_clock):
    """Nobody is ill, there is only too much to do; and what is done is of use to somebody."""
    settings = MeshSettings(max_concurrency=2, timeout_ms=5000, try_timeout_ms=2000, max_waiting=1000)
    rng = Random(3)

    async def works(_call):
        await trio.sleep(rng.uniform(*latencies))
        return Sent()

    mesh = world("a", behaviours={"a": works}, settings=settings)
    ended = []

    async def call():
        try:
            ended.append((await mesh.call("POST"))[0])
        except MeshError as error:
            ended.append(type(error))

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(call)
            await trio.sleep(0.26)
    assert len(ended) == 200
    assert set(ended) <= {200, UpstreamTimeoutError, ConcurrencyLimitError}
    assert ended.count(200) > 90  # in 52 seconds it can answer 104
    state = mesh.service.states["a"]
    assert [one.breaker.statistics().reason for one in (state, mesh.service)] == ["it never opened"] * 2
    assert state.limiter.limit == 2
    mesh.assert_all_is_back()


async def test_a_timeout_after_a_fair_share_of_the_time_is_the_instances(autojump_clock):
    """The retry of a call that hung had a little less than a whole try's time left; that was enough."""
    mesh = world("a", behaviours={"a": hang}, settings=MeshSettings(retries=2))
    with pytest.raises(UpstreamTimeoutError):
        await mesh.call()
    assert [str(one.outcome) for one in next(iter(mesh.mesh.recent)).attempts] == ["timed out"] * 3
    assert mesh.service.states["a"].breaker.statistics().failures_in_a_row == 3


async def test_who_got_a_slot_when_no_time_was_left_is_not_held_against_the_instance(autojump_clock):
    settings = MeshSettings(
        max_concurrency=1, timeout_ms=3000, try_timeout_ms=2000, circuit_breaker_threshold=1
    )
    mesh = world("a", behaviours={"a": slow(1.9)}, settings=settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mesh.call, "POST")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(UpstreamTimeoutError, match="did not answer within 1100 ms; no time was left"):
            await mesh.call("POST")
    state = mesh.service.states["a"]
    assert (state.breaker.state, state.limiter.statistics().drops) == (State.CLOSED, 0)
    assert mesh.service.breaker.statistics().failures == 0


async def test_what_no_time_was_left_for_is_told_as_that(autojump_clock):
    mesh = world("a", behaviours={"a": hang})
    with pytest.raises(UpstreamTimeoutError):
        await mesh.call(timeout=3)
    assert [str(one.outcome) for one in next(iter(mesh.mesh.recent)).attempts] == ["no time was left"]


async def test_a_service_that_hangs_is_found_out_by_callers_who_are_in_a_hurry_too(autojump_clock):
    """Their deadline never passes: each try is ended by our own timeout."""
    settings = MeshSettings(retries=0, circuit_breaker_threshold=1000)
    mesh = world("a", behaviours={"a": hang}, settings=settings)
    async with trio.open_nursery() as nursery:
        for _ in range(20):

            @nursery.start_soon
            async def call():
                with suppress(MeshError):
                    await mesh.call(timeout=29)

    assert mesh.service.breaker.state is State.OPEN


def body_that_fails(error, *parts):
    rest = list(parts)

    async def source():
        await trio.lowlevel.checkpoint()
        if rest:
            return rest.pop(0)
        raise error

    return KeptBody(source, None, is_resumable=False)


@pytest.mark.parametrize(
    "error", [httpx.ReadError("elsewhere"), httpx.ConnectError("elsewhere"), KeyError("x")]
)
async def test_a_body_that_its_source_breaks_off_is_the_callers_own_failure(error, autojump_clock):
    async def takes_it(call):
        return Sent(parts=[b"".join([part async for part in call.body.stream()])])

    mesh = world("a", behaviours={"a": takes_it}, settings=MeshSettings(circuit_breaker_threshold=1))
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            await mesh.call("PUT", body=body_that_fails(error, b"half"))
        assert caught.value is error
    assert len(mesh.asked) == 3
    state = mesh.service.states["a"]
    assert (state.breaker.state, state.breaker.statistics().calls) == (State.CLOSED, 0)
    assert mesh.service.breaker.statistics().calls == 0
    mesh.assert_all_is_back()


async def test_an_instance_that_answers_404_comes_back_to_its_concurrency(autojump_clock):
    mesh = world("a", behaviours={"a": answers(504)}, settings=PATIENT)
    for _ in range(15):
        await mesh.call("POST")
    limiter = mesh.service.states["a"].limiter
    low = limiter.limit
    assert low < 10
    mesh.behaviours["a"] = slow(0.1, 404)
    await trio.sleep(100)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(mesh.call)
    assert limiter.limit > 10


async def test_only_calls_for_which_nobody_was_asked_are_counted_as_refused(autojump_clock):
    async def leaves(call):
        mesh.instances = ()
        return await reset(call)

    mesh = world("a", behaviours={"a": leaves})
    service = mesh.mesh.show("workers")
    with pytest.raises(NoHealthyInstanceError) as caught:
        await mesh.call()
    assert (caught.value.attempts, caught.value.service_id) == (1, "a")
    assert (service.totals.failures, service.totals.refusals) == (1, 0)
    with pytest.raises(NoHealthyInstanceError) as caught:
        await mesh.call()
    assert (caught.value.attempts, caught.value.service_id) == (0, None)
    assert (service.totals.failures, service.totals.refusals) == (1, 1)
