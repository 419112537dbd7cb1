"""What changes while calls are made: settings, instances, and time without any calls."""

from contextlib import suppress

import pytest
import trio

from econeura_daemon.client import ConcurrencyLimitError, MeshError, Observer, Told, UpstreamTimeoutError
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from tests.support.mesh_rig import World, answers, hang, instance, refused, slow, well, world


async def open_breaker(mesh, calls=5):
    mesh.behaviours["a"] = refused
    for _ in range(calls):
        with suppress(MeshError):
            await mesh.call("POST")
    assert mesh.service.states["a"].breaker.state is State.OPEN


async def test_other_settings_close_no_breaker(autojump_clock):
    mesh = world("a", "b", settings=MeshSettings(retries=0, balancer="round_robin"))
    await open_breaker(mesh, calls=10)
    before = mesh.service.states["a"].breaker.statistics()
    mesh.reload(timeout_ms=7000, balancer="random")
    assert mesh.service.states["a"].breaker.statistics() == before
    assert mesh.service.policy.timeout == 7
    mesh.asked.clear()
    for _ in range(20):
        await mesh.call()
    assert mesh.asked == ["b"] * 20


async def test_other_settings_let_no_more_calls_go_to_an_instance_at_once(autojump_clock):
    most = 0

    async def counts(_call):
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        await trio.sleep(1)
        running.pop()
        return await well(_call)

    running = []
    mesh = world("a", behaviours={"a": counts}, settings=MeshSettings(max_concurrency=3))
    async with trio.open_nursery() as nursery:
        for _ in range(9):
            nursery.start_soon(mesh.call)
        await trio.testing.wait_all_tasks_blocked()
        mesh.reload(max_concurrency=3, timeout_ms=20_000)
        for _ in range(9):
            nursery.start_soon(mesh.call)
        await trio.testing.wait_all_tasks_blocked()
        assert mesh.service.in_flight == 18
    assert most == 3
    mesh.assert_all_is_back()


async def test_a_higher_limit_lets_in_who_waits_as_it_grows_and_a_lower_one_takes_no_slot_from_anybody(
    autojump_clock,
):
    mesh = world("a", behaviours={"a": slow(1)}, settings=MeshSettings(max_concurrency=4))
    limiter = None
    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(mesh.call)
        await trio.testing.wait_all_tasks_blocked()
        limiter = mesh.service.states["a"].limiter
        mesh.reload(max_concurrency=2, max_waiting=8)
        assert (limiter.borrowed, limiter.limit, limiter.tasks_waiting) == (4, 2, 8)
        with pytest.raises(ConcurrencyLimitError):
            await mesh.call()
        await trio.sleep(1.5)
        assert (limiter.borrowed, limiter.tasks_waiting) == (2, 6)
        mesh.reload(max_concurrency=100)
        await trio.sleep(1)
        assert limiter.borrowed == 4  # the two that are through let in two each
    assert limiter.limit > 4
    mesh.assert_all_is_back()


async def test_other_timeouts_retries_and_thresholds_hold_from_the_next_call_on(autojump_clock):
    mesh = world("a", behaviours={"a": hang}, settings=MeshSettings(retries=0))
    mesh.reload(timeout_ms=3000, retries=1, circuit_breaker_threshold=2, try_timeout_ms=1000)
    begun = trio.current_time()
    with pytest.raises(UpstreamTimeoutError):
        await mesh.call()
    assert (trio.current_time() - begun, len(mesh.asked)) == (pytest.approx(2, abs=0.11), 2)
    assert mesh.service.states["a"].breaker.state is State.OPEN
    mesh.instances = (instance("a"), instance("b"))
    mesh.reload(circuit_breaker_threshold=1)
    mesh.behaviours["b"] = refused
    with suppress(MeshError):
        await mesh.call()
    assert mesh.service.states["b"].breaker.state is State.OPEN


async def test_another_balancer_and_another_time_of_the_services_breaker_hold_too(autojump_clock):
    mesh = world(
        "a", "b", settings=MeshSettings(balancer="random", retries=0, circuit_breaker_threshold=1000)
    )
    await mesh.call()
    mesh.reload(
        balancer="round_robin", retries=0, circuit_breaker_threshold=1000, circuit_breaker_open_ms=5000
    )
    mesh.asked.clear()
    for _ in range(20):
        await mesh.call()
    assert "".join(mesh.asked) in {"ab" * 10, "ba" * 10}
    mesh.behaviours = dict.fromkeys("ab", answers(500))
    for _ in range(21):
        with suppress(MeshError):
            await mesh.call()
    found = mesh.service.breaker.statistics()
    assert (found.state, found.until) == (State.OPEN, pytest.approx(trio.current_time() + 5, abs=0.5))


async def test_an_instance_of_which_nothing_is_known_yet_waits_for_its_first_probe(autojump_clock):
    panics = []
    told = Told(panic=lambda _, is_panic: panics.append(is_panic))
    old, new = [instance(name) for name in "ab"], [instance(name, well=None) for name in "cdefg"]
    mesh = World((*old, *new), observer=Observer(told=told))
    for _ in range(50):
        await mesh.call()
    assert set(mesh.asked) == {"a", "b"}
    mesh.instances = tuple(new)  # nobody else is there
    mesh.asked.clear()
    for _ in range(50):
        await mesh.call()
    assert set(mesh.asked) == set("cdefg")
    assert panics == []


async def test_what_nobody_was_there_to_see_ejects_nobody_afterwards(autojump_clock):
    settings = MeshSettings(circuit_breaker_threshold=1000, retries=0, balancer="round_robin")
    told = []
    observer = Observer(told=Told(ejected=lambda *what: told.append(what)))
    mesh = world("a", "b", "c", settings=settings, observer=observer)
    turns = iter(range(1000))

    async def fails_often(call):
        return await (answers(500) if next(turns) % 5 < 2 else well)(call)

    mesh.behaviours["a"] = fails_often
    for _ in range(90):
        await mesh.call()
    await trio.sleep(3600)
    await mesh.call()
    assert told == []


async def test_a_service_that_is_gone_is_in_panic_no_more(autojump_clock):
    panics = []
    told = Told(panic=lambda _, is_panic: panics.append(is_panic))
    mesh = World((instance("a", well=False),), observer=Observer(told=told))
    await mesh.call()
    mesh.instances = ()
    assert mesh.mesh.services() == {}
    assert panics == [True, False]


async def test_a_breaker_whose_time_was_over_long_ago_begins_its_trials(autojump_clock):
    mesh = world("a", settings=MeshSettings(retries=0))
    await open_breaker(mesh)
    mesh.behaviours["a"] = well
    await trio.sleep(400 * 86_400)
    for _ in range(3):
        assert await mesh.call() == (200, b"ok")
    assert mesh.service.states["a"].breaker.state is State.CLOSED


async def test_an_instance_that_moves_leaves_what_was_known_behind_and_calls_to_its_old_place_go_on(
    autojump_clock,
):
    mesh = world("a", behaviours={"a": slow(5)})
    answer = None

    async def one():
        nonlocal answer
        answer = await mesh.begin()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        await trio.sleep(1)
        before = mesh.service.states["a"]
        mesh.instances = (instance("a", port=81),)
        after = mesh.service.states["a"]
        assert after is not before
        assert (before.member.in_flight, after.member.in_flight) == (1, 0)
    answer.close()
    assert (before.member.in_flight, before.limiter.borrowed) == (0, 0)
    mesh.assert_all_is_back()
