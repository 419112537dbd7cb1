"""What each end of a call teaches: limits, latencies, ejections, and the waits that are told to callers."""

from contextlib import suppress

import httpx
import pytest
import trio

from econeura_daemon.client import (
    CircuitOpenError,
    KeptBody,
    MeshError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from tests.support.mesh_rig import (
    Sent,
    answers,
    hang,
    instance,
    pieces,
    read,
    refused,
    reset,
    slow,
    well,
    world,
)

PATIENT = MeshSettings(circuit_breaker_threshold=1000, retries=0)


async def whole(mesh):
    with suppress(MeshError, httpx.TransportError):
        await mesh.call()


@pytest.mark.parametrize(
    ("trouble", "drops"),
    [
        (hang, 1),
        (answers(200, parts=[b"x", httpx.ReadTimeout("silence")]), 1),
        (answers(200, parts=[b"x", httpx.ReadError("reset")]), 0),
        (answers(504), 1),
        (answers(500), 0),
        (refused, 0),
        (reset, 0),
        (well, 0),
    ],
)
async def test_what_was_too_much_lowers_the_limit(trouble, drops, autojump_clock):
    mesh = world("a", behaviours={"a": trouble}, settings=PATIENT)
    await whole(mesh)
    limiter = mesh.service.states["a"].limiter
    assert (limiter.statistics().drops, limiter.limit) == (drops, 20 - 2 * drops)


@pytest.mark.parametrize(
    "trouble", [refused, reset, answers(500), answers(200, parts=[b"x", httpx.ReadError("reset")])]
)
async def test_a_quick_failure_is_no_quick_answer(trouble, autojump_clock):
    mesh = world("a", behaviours={"a": trouble}, settings=PATIENT)
    await whole(mesh)
    member = mesh.service.states["a"].member
    assert 1 <= mesh.service.roster.latency(member, trio.current_time()) < 1.1


async def test_what_no_time_was_left_for_teaches_no_latency(autojump_clock):
    mesh = world("a", behaviours={"a": slow(0.2)}, settings=PATIENT)
    await mesh.call()
    mesh.behaviours["a"] = hang
    with pytest.raises(UpstreamTimeoutError):
        await mesh.call(timeout=5)
    member = mesh.service.states["a"].member
    assert mesh.service.roster.latency(member, trio.current_time()) <= 0.2


async def ejected(trouble):
    """Return a mesh whose first instance was ejected for this trouble, and was well for a sweep before."""
    mesh = world(
        *"abcd", settings=MeshSettings(circuit_breaker_threshold=1000, retries=0, balancer="round_robin")
    )
    turns = iter(range(10_000))

    async def fails_often(call):
        is_first_sweep = trio.current_time() < 12
        return await (trouble if next(turns) % 5 < 2 and not is_first_sweep else well)(call)

    mesh.behaviours["a"] = fails_often
    for _ in range(230):
        await whole(mesh)
        await trio.sleep(0.1)
    assert "of its calls succeeded" in mesh.service.ejector.refusal("a", trio.current_time()).reason
    return mesh


@pytest.mark.parametrize(
    "trouble", [refused, reset, answers(500), answers(200, parts=[b"x", httpx.ReadError("reset")])]
)
async def test_whatever_fails_counts_for_an_ejection(trouble, autojump_clock):
    mesh = await ejected(trouble)
    mesh.asked.clear()
    for _ in range(30):
        await mesh.call()
    assert set(mesh.asked) == set("bcd")


async def test_who_comes_back_from_an_ejection_comes_slowly(autojump_clock):
    mesh = await ejected(refused)
    await trio.sleep(30)
    await mesh.call()
    state = mesh.service.states["a"]
    assert mesh.service.ejector.refusal("a", trio.current_time()) is None
    assert mesh.service.roster.share(state.member, trio.current_time()) < 0.2
    await trio.sleep(10)
    assert mesh.service.roster.share(state.member, trio.current_time()) == 1


async def test_an_ejection_ends_when_it_was_said_to(autojump_clock):
    mesh = await ejected(refused)
    until = mesh.service.ejector.refusal("a", trio.current_time()).until
    await trio.sleep_until(until - 7)
    await mesh.call()  # from then on the next sweep is later than the end
    await trio.sleep_until(until)
    mesh.behaviours["a"] = well
    mesh.asked.clear()
    for _ in range(200):
        await mesh.call()
    assert "a" in mesh.asked


async def test_an_instance_that_is_registered_anew_at_another_address_is_not_ejected(autojump_clock):
    mesh = await ejected(refused)
    mesh.instances = (instance("a", port=81), *mesh.instances[1:])
    mesh.behaviours["a"] = well
    mesh.asked.clear()
    for _ in range(200):
        await mesh.call()
    assert "a" in mesh.asked


async def test_nothing_is_kept_of_an_instance_that_left_before_its_answer_came(autojump_clock):
    mesh = world("a", "b", behaviours=dict.fromkeys("ab", slow(5)))
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(mesh.call)
        await trio.sleep(1)
        mesh.instances = mesh.instances[1:]
        assert set(mesh.service.states) == {"b"}
    assert set(mesh.asked) == {"a", "b"}
    assert set(mesh.service.ejector._records) == {"b"}
    assert set(mesh.service.roster.members) == {"b"}


async def test_when_the_services_breaker_is_open_it_is_said_until_when(autojump_clock):
    mesh = world(*"abcd", settings=PATIENT, behaviours=dict.fromkeys("abcd", answers(500)))
    for _ in range(20):
        await mesh.call()
    with pytest.raises(CircuitOpenError, match="20 of 20 calls failed") as caught:
        await mesh.call()
    assert caught.value.retry_after == pytest.approx(5, rel=0.1)
    assert mesh.service.breaker.state is State.OPEN


@pytest.mark.parametrize(("length", "attempts"), [(64 * 1024, 3), (64 * 1024 + 1, 1), (None, 1)])
async def test_only_a_body_that_surely_can_be_sent_again_has_a_tries_timeout(
    length, attempts, autojump_clock
):
    """Any other would be lost with its first try: so that one has all of the time."""
    mesh = world("a", behaviours={"a": hang}, settings=MeshSettings(circuit_breaker_threshold=1000))
    with pytest.raises(UpstreamTimeoutError):
        await mesh.call("PUT", body=KeptBody(pieces(b"x"), length))
    assert (len(mesh.asked), trio.current_time()) == (attempts, pytest.approx(30, abs=0.01))


@pytest.mark.parametrize(("is_resumable", "attempts"), [(True, 2), (False, 1)])
async def test_a_body_that_was_awaited_when_the_connection_was_lost(is_resumable, attempts, autojump_clock):
    """Who was interrupted while it waited for a piece can ask again, unless that was the end of its source."""
    rest = [b"ab", b"cd", b""]

    async def source():
        await trio.sleep(1)
        return rest.pop(0)

    async def loses_the_connection(call):
        if len(mesh.asked) > 1:
            return Sent(parts=[await read(call.body.stream())])
        with trio.move_on_after(1.5):
            await read(call.body.stream())
        raise httpx.ReadError("reset")

    mesh = world("a", behaviours={"a": loses_the_connection})
    body = KeptBody(source, None, is_resumable=is_resumable)
    if is_resumable:
        assert await mesh.call("PUT", body=body) == (200, b"abcd")
    else:
        with pytest.raises(UpstreamUnreachableError, match="the body cannot be sent again"):
            await mesh.call("PUT", body=body)
    assert len(mesh.asked) == attempts
    mesh.assert_all_is_back()
