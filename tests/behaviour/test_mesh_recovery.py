"""What an instance's trouble costs those who come meanwhile, and after it."""

from collections import Counter
from contextlib import suppress

import trio

from econeura_daemon.client import MeshError
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from tests.support.mesh_rig import hang, refused, reset, slow, well, world


async def test_calls_that_hang_together_are_all_tried_again_elsewhere(autojump_clock):
    mesh = world("a", "b", settings=MeshSettings(try_timeout_ms=1000, balancer="round_robin"))
    mesh.behaviours.update(a=hang, b=slow(0.05))
    ended = Counter()

    async def call():
        status, _ = await mesh.call()
        ended[status] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(call)
            await trio.sleep(0.005)
    assert ended == {200: 20}
    assert mesh.service.totals.retries == mesh.asked.count("a") == 10
    mesh.assert_all_is_back()


async def test_nobody_is_refused_while_every_breaker_has_just_closed(autojump_clock):
    mesh = world("a", "b", "c", settings=MeshSettings(retries=0, balancer="round_robin"))
    for name in "abc":
        mesh.behaviours[name] = refused
    for _ in range(15):
        with suppress(MeshError):
            await mesh.call()
    for name in "abc":
        mesh.behaviours[name] = well
    await trio.sleep(70)
    for _ in range(100):
        assert await mesh.call() == (200, b"ok")
        await trio.sleep(0.01)
    for one in mesh.service.states.values():
        assert one.breaker.state is State.CLOSED
        assert one.breaker.statistics().until is not None, "it has recovered"


async def test_an_instance_whose_breaker_has_just_closed_comes_to_its_share_slowly(autojump_clock):
    mesh = world("a", "b", settings=MeshSettings(balancer="round_robin"), behaviours={"a": refused})
    for _ in range(20):
        await mesh.call()
    mesh.behaviours["a"] = well
    await trio.sleep(70)
    breaker = mesh.service.states["a"].breaker
    while breaker.state is not State.CLOSED:
        await mesh.call()
    shares = []
    for _ in range(3):
        mesh.asked.clear()
        for _ in range(500):
            await mesh.call()
            await trio.sleep(0.01)
        shares.append(mesh.asked.count("a") / 500)
    assert 0.05 < shares[0] < 0.25
    assert shares[0] < shares[1] < 0.45
    assert shares[2] == 0.5


async def test_a_call_does_not_wait_for_a_budget_that_is_spent(autojump_clock):
    turns = iter(range(10_000))

    async def fails_often(call):
        return await (reset if next(turns) % 5 < 2 else well)(call)

    settings = MeshSettings(circuit_breaker_threshold=1000)
    mesh = world("a", "b", behaviours={"a": fails_often, "b": fails_often}, settings=settings)
    ended = []
    for _ in range(300):
        began = trio.current_time()
        try:
            await mesh.call()
        except MeshError as error:
            ended.append(error)
            waits = sum(0.1 * 2**number for number in range(error.attempts))
            assert trio.current_time() - began <= waits
    assert any("spent the retry budget" in str(error) for error in ended)
    mesh.assert_all_is_back()
