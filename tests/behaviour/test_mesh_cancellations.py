"""Callers that leave, at any moment: nothing stays held, nobody is blamed, and nobody else can end a call."""

from contextlib import suppress
from random import Random

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from econeura_daemon.client import FaultBody, KeptBody, MeshError
from econeura_daemon.core.settings import MeshSettings
from tests.support.mesh_rig import (
    Sent,
    World,
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


async def test_50_cancels_leave_it_closed_and_every_in_flight_counter_at_0(autojump_clock):
    mesh = world("a", "b", behaviours={"a": hang, "b": answers(200, parts=[b"x", 1000.0])})
    for _ in range(50):
        with trio.move_on_after(1):
            await mesh.call()
    assert set(mesh.asked) == {"a", "b"}
    for breaker in (mesh.service.breaker, *(state.breaker for state in mesh.service.states.values())):
        assert breaker.statistics().reason == "it never opened"
        assert breaker.statistics().failures == 0
    assert [state.limiter.statistics().drops for state in mesh.service.states.values()] == [0, 0]
    mesh.assert_all_is_back()


async def test_an_in_flight_call_is_cancellable_by_nobody_but_its_caller(autojump_clock):
    mesh = world(
        "a", settings=MeshSettings(max_concurrency=3, circuit_breaker_threshold=2, timeout_ms=100_000)
    )
    ended = {}

    async def caller(name, body, scope):
        with scope:
            ended[name] = await mesh.call("POST", body=body)
            return
        ended[name] = "cancelled"

    async def uploads(call):
        return Sent(parts=[await read(call.body.stream()), 40.0, b"!"])

    async def source():
        await trio.sleep(10)
        return next(parts)

    parts = iter([b"a", b"b", b"c", b""])
    mesh.behaviours["a"] = uploads
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller, "streams", KeptBody(source, None), trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        mesh.behaviours["a"] = slow(80)
        nursery.start_soon(caller, "waits", b"", trio.CancelScope())
        third = trio.CancelScope()
        nursery.start_soon(caller, "leaves", b"", third)
        queued = trio.CancelScope()
        nursery.start_soon(caller, "leaves the queue", b"", queued)
        nursery.start_soon(caller, "queues", b"", trio.CancelScope())
        await trio.sleep(1)
        assert mesh.service.states["a"].limiter.tasks_waiting == 2
        queued.cancel()
        third.cancel()
        await trio.sleep(1)
        assert ended == {"leaves": "cancelled", "leaves the queue": "cancelled"}
        mesh.mesh.faults.put(FaultBody(type="workers", drop=True))
        mesh.reload(timeout_ms=1, max_concurrency=1, max_waiting=0, balancer="random")
        mesh.instances = (instance("a", well=False), instance("b"))
        mesh.behaviours["b"] = refused
        for _ in range(9):
            with suppress(MeshError):
                await mesh.call()
        mesh.instances = (instance("a", draining=True),)
        with suppress(MeshError):
            await mesh.call()
        mesh.instances = (instance("a", port=81),)
        mesh.mesh.services()
        mesh.instances = ()
        assert mesh.mesh.services() == {}
        mesh.instances = (instance("a"),)
        mesh.reload()
        mesh.mesh.show("workers")
    assert ended == {
        "leaves": "cancelled",
        "leaves the queue": "cancelled",
        "waits": (200, b"ok"),
        "queues": (200, b"ok"),
        "streams": (200, b"abc!"),
    }
    assert trio.current_time() == pytest.approx(81, abs=1)
    mesh.assert_all_is_back()


KINDS = {
    "well": well,
    "refused": refused,
    "reset": reset,
    "503": answers(503),
    "429": answers(429, headers=[(b"retry-after", b"1")]),
    "slow": slow(1.3),
    "hangs": hang,
    "broken": answers(200, parts=[b"x", 0.2, httpx.ReadError("reset")]),
    "stream": answers(200, parts=[b"x", 0.7, b"y", 0.7]),
}
CANCELS = 100
"""Callers that leave, in one example."""
CALLS = 1500
"""At most, in one example: when breakers are open nobody has to wait, and so nobody leaves."""


@settings(max_examples=settings().max_examples // 10)  # 1,000 cancellations, and 20,000 when soaking
@given(
    st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=20),
    st.lists(st.floats(0.001, 4), min_size=1, max_size=20),
    st.sampled_from(["least_cost", "round_robin", "p2c"]),
    st.integers(0, 2**32),
)
def test_random_cancellations_leave_every_in_flight_counter_at_0(kinds, stays, balancer, seed):
    rng = Random(seed)
    left = calls = 0

    async def behave(call):
        if isinstance(call.body, KeptBody) and rng.random() < 0.8:
            await read(call.body.stream())
        return await KINDS[dict(call.headers)[b"kind"].decode()](call)

    async def source():
        await trio.sleep(rng.random())
        return b"" if rng.random() < 0.5 else b"x" * rng.choice((1, 70_000))

    async def main():
        nonlocal calls
        limits = {"max_concurrency": 3, "max_waiting": 3, "timeout_ms": 5000, "circuit_breaker_open_ms": 500}
        mesh = World(
            tuple(map(instance, "ab")), settings=MeshSettings(balancer=balancer, **limits), seed=seed
        )
        mesh.behaviours = dict.fromkeys("abc", behave)

        async def one():
            nonlocal left
            kind = rng.choice((*kinds, "hangs"))
            body = KeptBody(source, None, is_resumable=rng.random() < 0.5) if rng.random() < 0.3 else b"x"
            with trio.move_on_after(rng.choice(stays)) as scope, suppress(MeshError, httpx.ReadError):
                answer = await mesh.begin(
                    rng.choice(("PUT", "POST")), headers=[(b"kind", kind.encode())], body=body
                )
                if rng.random() < 0.1:
                    answer.close()
                while await answer.more():
                    pass
            left += scope.cancelled_caught

        async def change():
            while True:
                await trio.sleep(rng.random() * 3)
                draining = rng.random() < 0.2
                names = rng.sample("abc", rng.randint(1, 3))
                mesh.instances = tuple(
                    instance(name, draining=draining, port=rng.choice((80, 81))) for name in names
                )
                if rng.random() < 0.3:
                    mesh.reload(balancer=balancer, **limits)

        seen = set()
        async with trio.open_nursery() as outer:
            outer.start_soon(change)
            async with trio.open_nursery() as nursery:
                while left < CANCELS and calls < CALLS:
                    calls += 1
                    nursery.start_soon(one)
                    await trio.sleep(rng.expovariate(10))
                    seen.update(mesh.service.states.values())
            outer.cancel_scope.cancel()
        mesh.assert_all_is_back()
        for state in seen:  # those that left too
            assert (state.member.in_flight, state.limiter.borrowed, state.limiter.tasks_waiting) == (0, 0, 0)
            assert state.breaker.statistics().in_flight == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert left > 0


async def test_a_cancellation_at_every_single_step_leaves_nothing_held(autojump_clock):
    async def behave(call):
        if isinstance(call.body, KeptBody):
            await read(call.body.stream())
        await trio.lowlevel.checkpoint()
        return Sent(503) if len(mesh.asked) % 2 else Sent(parts=[b"a", b"b"])

    for steps in range(60):
        mesh = world("a", behaviours={"a": behave}, settings=MeshSettings(max_concurrency=1))
        async with trio.open_nursery() as nursery:
            for body in (
                b"",
                KeptBody(pieces(b"a", b"b"), 2),
                KeptBody(pieces(b"a"), None, is_resumable=False),
            ):

                async def call(mesh=mesh, body=body):
                    await mesh.call("PUT", body=body)

                nursery.start_soon(call)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        if mesh.asked:
            mesh.assert_all_is_back()
