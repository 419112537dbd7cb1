"""Calls through the mesh: who is asked, how often, until when, and what is left of it."""

from collections import Counter
from contextlib import suppress

import httpx
import pytest
import trio

from econeura_daemon.client import (
    CircuitOpenError,
    ConcurrencyLimitError,
    FaultBody,
    MeshError,
    NoHealthyInstanceError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from tests.support.mesh_rig import (
    Sent,
    World,
    answers,
    hang,
    instance,
    refused,
    reset,
    slow,
    well,
    world,
)


async def test_an_answer_tells_who_gave_it_after_how_many_attempts_and_when(autojump_clock):
    mesh = world("a", behaviours={"a": slow(2)})
    answer = await mesh.begin()
    assert (answer.service_id, answer.attempts, answer.seconds) == ("a", 1, 2)
    assert await answer.more() == b"ok"
    assert await answer.more() == b""
    mesh.assert_all_is_back()


async def test_what_a_call_holds_is_given_back_with_the_end_of_its_answer(autojump_clock):
    mesh = world("a")
    answer = await mesh.begin()
    state = mesh.service.states["a"]
    assert (state.limiter.borrowed, state.member.in_flight, mesh.service.in_flight) == (1, 1, 1)
    answer.close()
    answer.close()
    mesh.assert_all_is_back()


@pytest.mark.parametrize("trouble", [refused, reset, answers(503), answers(502), hang])
async def test_what_fails_is_tried_elsewhere(trouble, autojump_clock):
    mesh = world("a", "b", behaviours={"a": trouble}, settings=MeshSettings(balancer="round_robin"))
    for _ in range(4):
        assert await mesh.call() == (200, b"ok")
    assert "a" in mesh.asked
    assert "aa" not in "".join(mesh.asked)
    mesh.assert_all_is_back()


@pytest.mark.parametrize("trouble", [reset, answers(503), answers(429), hang])
async def test_a_post_that_may_have_been_carried_out_is_not_sent_twice(trouble, autojump_clock):
    mesh = world("a", behaviours={"a": trouble})
    with suppress(MeshError):
        await mesh.call("POST", body=b"x")
    assert len(mesh.asked) == 1
    mesh.assert_all_is_back()


async def test_a_post_with_an_idempotency_key_is_sent_again(autojump_clock):
    mesh = world("a", behaviours={"a": answers(503)})
    status, _ = await mesh.call("POST", headers=[(b"Idempotency-Key", b"1")])
    assert (status, len(mesh.asked)) == (503, 4)


async def test_a_post_that_nobody_saw_is_tried_elsewhere(autojump_clock):
    mesh = world("a", "b", "c", behaviours={"a": refused, "b": refused})
    assert await mesh.call("POST", body=b"x") == (200, b"ok")


async def test_nobody_to_ask_is_said(autojump_clock):
    with pytest.raises(NoHealthyInstanceError, match="No instance of 'workers' is registered"):
        await World().call()
    draining = World((instance("a", draining=True),))
    with pytest.raises(NoHealthyInstanceError, match="All 1 instances of 'workers' are draining"):
        await draining.call()
    database = World((instance("a", scheme="postgresql"),))
    with pytest.raises(NoHealthyInstanceError, match="that speaks HTTP"):
        await database.call()


async def test_names_that_nobody_has_are_not_remembered(autojump_clock):
    mesh = World()
    for _ in range(3):
        with suppress(NoHealthyInstanceError):
            await mesh.call()
    assert mesh.mesh.services() == {}


@pytest.mark.parametrize("status", [200, 302, 400, 404, 500, 501])
async def test_other_answers_are_final(status, autojump_clock):
    mesh = world("a", behaviours={"a": answers(status)})
    assert (await mesh.call())[0] == status
    assert len(mesh.asked) == 1


async def test_the_last_failure_is_the_result_when_retries_end(autojump_clock):
    mesh = world("a", behaviours={"a": refused}, settings=MeshSettings(circuit_breaker_threshold=100))
    with pytest.raises(UpstreamUnreachableError, match=r"a: connection refused by 127\.0\.0\.1:9") as caught:
        await mesh.call()
    assert (caught.value.attempts, caught.value.service_id) == (4, "a")
    assert isinstance(caught.value, httpx.TransportError)
    mesh.assert_all_is_back()


async def test_a_retry_after_within_the_deadline_is_waited_for(autojump_clock):
    seen = []

    async def behave(_call):
        await trio.lowlevel.checkpoint()
        seen.append(trio.current_time())
        return Sent() if len(seen) > 1 else Sent(429, headers=[(b"retry-after", b"7")])

    mesh = world("a", behaviours={"a": behave})
    assert await mesh.call() == (200, b"ok")
    assert seen == [0, pytest.approx(7, abs=0.2)]


async def test_a_timeout_of_the_caller_never_lengthens_the_services(autojump_clock):
    mesh = world("a", behaviours={"a": hang})
    with pytest.raises(UpstreamTimeoutError):
        await mesh.call("POST", timeout=100)
    assert trio.current_time() == 30


async def test_a_patient_caller_waits_longer_than_the_service_says_and_for_one_answer(autojump_clock):
    async def slow(_call):
        await trio.sleep(250)
        return Sent()

    mesh = world("a", "b", behaviours={"a": slow, "b": slow})
    assert await mesh.call(timeout=300, is_patient=True) == (200, b"ok")
    assert len(mesh.asked) == 1, "nobody else was asked while one was at it"
    with pytest.raises(UpstreamTimeoutError):
        await mesh.call(timeout=200, is_patient=True)
    assert trio.current_time() == 450
    mesh.behaviours = {"a": refused, "b": slow}
    assert await mesh.call("POST", timeout=300, is_patient=True) == (200, b"ok"), "it is retried all the same"
    mesh.assert_all_is_back()


async def test_when_all_breakers_are_open_it_is_said_until_when(autojump_clock):
    mesh = world("a", behaviours={"a": refused}, settings=MeshSettings(retries=0))
    for _ in range(5):
        with pytest.raises(UpstreamUnreachableError):
            await mesh.call()
    with pytest.raises(CircuitOpenError, match="5 failures in a row") as caught:
        await mesh.call()
    assert 54 <= caught.value.retry_after <= 66
    assert (mesh.service.totals.refusals, len(mesh.asked)) == (1, 5)
    mesh.behaviours["a"] = well
    await trio.sleep(caught.value.retry_after)
    assert await mesh.call() == (200, b"ok")


async def test_a_breaker_that_is_open_is_passed_over_and_spends_no_retry(autojump_clock):
    mesh = world("a", "b", behaviours={"a": refused}, settings=MeshSettings(balancer="round_robin"))
    for _ in range(20):
        assert await mesh.call() == (200, b"ok")
    assert mesh.asked.count("a") == 5
    assert mesh.service.totals.retries == 5


async def test_a_service_of_which_half_the_whole_calls_fail_is_left_alone(autojump_clock):
    mesh = world("a", "b", "c", "d", settings=MeshSettings(retries=0, circuit_breaker_threshold=1000))
    for name in "abcd":
        mesh.behaviours[name] = answers(500)
    for _ in range(20):
        await mesh.call()
    with pytest.raises(CircuitOpenError, match="workers is open: 20 of 20 calls failed"):
        await mesh.call()


async def test_panic_uses_the_unhealthy_but_never_the_drained(autojump_clock):
    ill = [instance(name, well=False) for name in "abc"]
    mesh = World(
        (*ill, instance("d"), instance("e", draining=True)), settings=MeshSettings(balancer="round_robin")
    )
    for _ in range(40):
        await mesh.call()
    assert set(mesh.asked) == set("abcd")
    assert mesh.service.is_panic
    mesh.instances = (*(instance(name) for name in "abc"), *mesh.instances[3:])
    assert not mesh.service.is_panic


async def test_an_unhealthy_instance_is_not_asked_while_enough_are_well(autojump_clock):
    mesh = World((instance("a", well=False), instance("b"), instance("c")))
    for _ in range(40):
        await mesh.call()
    assert set(mesh.asked) == {"b", "c"}


async def test_what_is_known_of_an_instance_outlives_changes_and_goes_with_it(autojump_clock):
    mesh = world("a", "b", behaviours={"a": refused}, settings=MeshSettings(balancer="round_robin"))
    for _ in range(10):
        await mesh.call()
    before = mesh.service.states["a"]
    assert before.breaker.state is State.OPEN
    mesh.instances = (instance("a", weight=7), instance("b"), instance("c"))
    assert mesh.service.states["a"] is before
    assert before.member.weight == 7
    mesh.instances = (instance("a", port=81), instance("b"))
    assert mesh.service.states["a"] is not before
    assert set(mesh.service.states) == {"a", "b"}


async def test_a_call_to_an_instance_that_goes_ends_at_its_own_pace(autojump_clock):
    mesh = world("a", behaviours={"a": slow(5)})
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def change():
            await trio.sleep(1)
            mesh.instances = (instance("b"),)
            assert await mesh.call() == (200, b"ok")

        assert await mesh.call() == (200, b"ok")
    assert trio.current_time() == 5
    mesh.assert_all_is_back()


async def test_who_finds_no_slot_waits_in_turn_and_beyond_that_is_refused(autojump_clock):
    settings = MeshSettings(max_concurrency=2, max_waiting=3)
    mesh = world("a", behaviours={"a": slow(1)}, settings=settings)
    ended = []

    async def call(n):
        try:
            await mesh.call()
            ended.append((n, trio.current_time()))
        except ConcurrencyLimitError:
            ended.append((n, "refused"))

    async with trio.open_nursery() as nursery:
        for n in range(7):
            nursery.start_soon(call, n)
            await trio.testing.wait_all_tasks_blocked()
    assert sorted(ended, key=lambda one: one[0]) == [
        (0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (5, "refused"), (6, "refused"),
    ]  # fmt: skip
    mesh.assert_all_is_back()


async def test_who_waits_beyond_the_deadline_leaves_the_queue(autojump_clock):
    mesh = world("a", behaviours={"a": slow(10)}, settings=MeshSettings(max_concurrency=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mesh.call, "POST")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConcurrencyLimitError, match="before the deadline"):
            await mesh.call(timeout=2)
        assert trio.current_time() == pytest.approx(2, abs=0.01)
        assert mesh.service.states["a"].limiter.tasks_waiting == 0
    mesh.assert_all_is_back()


async def test_a_full_instance_is_passed_over(autojump_clock):
    mesh = world("a", "b", behaviours={"a": hang}, settings=MeshSettings(max_concurrency=1))
    async with trio.open_nursery() as nursery:
        while mesh.asked != ["a"]:
            mesh.asked.clear()
            nursery.start_soon(mesh.call, "POST")
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            assert await mesh.call("POST") == (200, b"ok")
        assert mesh.asked == ["a", *"bbbbb"]
        nursery.cancel_scope.cancel()
    mesh.assert_all_is_back()


async def test_a_stream_that_lasts_holds_no_trial(autojump_clock):
    mesh = world("a", behaviours={"a": refused}, settings=MeshSettings(retries=0))
    for _ in range(5):
        with suppress(MeshError):
            await mesh.call()
    await trio.sleep(70)
    mesh.behaviours["a"] = answers(200, parts=[1000.0, b"x"])
    streams = [await mesh.begin() for _ in range(3)]
    await trio.sleep(100)
    assert mesh.service.states["a"].breaker.state is State.CLOSED
    assert mesh.service.states["a"].limiter.borrowed == 3
    for stream in streams:
        stream.close()
    mesh.assert_all_is_back()


async def test_retries_are_a_part_of_all_calls(autojump_clock):
    turns = iter(range(10_000))

    async def fails_often(_call):
        await trio.lowlevel.checkpoint()
        return Sent(503 if next(turns) % 5 < 2 else 200)

    settings = MeshSettings(circuit_breaker_threshold=1000)
    mesh = world("a", "b", behaviours={"a": fails_often, "b": fails_often}, settings=settings)
    for n in range(1, 301):
        await mesh.call(timeout=1)
        assert mesh.service.totals.retries <= 30 + n / 10
    assert mesh.service.totals.retries > 40
    mesh.assert_all_is_back()


async def test_an_outlier_is_ejected_and_comes_back(autojump_clock):
    settings = MeshSettings(circuit_breaker_threshold=1000, retries=0, balancer="round_robin")
    mesh = world("a", "b", "c", "d", settings=settings)
    turns = iter(range(10_000))

    async def fails_often(_call):
        await trio.lowlevel.checkpoint()
        return Sent(500 if next(turns) % 5 < 2 else 200)

    mesh.behaviours["a"] = fails_often
    for _ in range(120):
        await mesh.call()
        await trio.sleep(0.1)
    mesh.asked.clear()
    for _ in range(100):
        await mesh.call()
    assert "a" not in mesh.asked
    assert "of its calls succeeded" in mesh.service.ejector.refusal("a", trio.current_time()).reason
    mesh.behaviours["a"] = well
    await trio.sleep(31)
    for _ in range(400):
        await mesh.call()
    assert "a" in mesh.asked


async def test_injected_faults_are_taken_for_the_instances_own_until_they_end(autojump_clock):
    mesh = world("a", "b", settings=MeshSettings(retries=0))
    await mesh.call()
    mesh.mesh.faults.put(FaultBody(type="workers", service_id="a", drop=True, expires_in_ms=5_000))
    mesh.mesh.faults.put(FaultBody(type="workers", abort_status=503, delay_ms=100, percent=50))
    seen = Counter()
    for _ in range(200):
        begun = trio.current_time()
        try:
            status, _ = await mesh.call(timeout=1)
            seen[status, trio.current_time() > begun] += 1
        except UpstreamUnreachableError as dropped:
            seen["dropped"] += 1
            text = str(dropped)
        except CircuitOpenError:
            break
    assert set(seen) == {(200, False), (503, True), "dropped"}
    assert "injected fault" in text
    assert [one.deed.percent for one in mesh.mesh.faults.live()] == [100, 50]
    await trio.sleep(61)
    assert mesh.mesh.faults.live() == []
    mesh.mesh.faults.put(FaultBody(type="workers", drop=True))
    assert (mesh.mesh.faults.remove("web"), mesh.mesh.faults.remove("workers")) == (0, 1)
    mesh.assert_all_is_back()


@pytest.mark.parametrize("wish", [{}, {"drop": True, "abort_status": 503}, {"delay_ms": 1, "percent": 101}])
def test_a_fault_that_is_none_is_refused(wish):
    with pytest.raises(ValueError, match=r"expected|either"):
        FaultBody(type="workers", **wish)
