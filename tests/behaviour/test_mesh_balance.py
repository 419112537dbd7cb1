"""Which instance gets how much: one test for each defect that balancers are known for, named after it.

Each goes through the whole mesh. The balancers alone are tested in `test_resilience_balancers`, alone under load in
`test_resilience_load`; ejection alone in `test_resilience_ejection`.
"""

from collections import Counter
from contextlib import suppress
from random import Random

import pytest
import trio

from econeura_daemon.client import MeshError, Observer, Told
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from econeura_daemon.resilience import BALANCERS, Availability
from tests.support.mesh_rig import Sent, World, answers, instance, refused, reset, world

CHI_SQUARE_4 = 18.47
"""What chi-square with four degrees of freedom exceeds once in a thousand times."""


def chi_square(counts, names):
    expected = counts.total() / len(names)
    return sum((counts[name] - expected) ** 2 / expected for name in names)


async def calls_for(mesh, seconds, rate, rng):
    """Let calls come by chance, ``rate`` a second; return whom they went to."""
    mesh.asked.clear()

    async def one():
        with suppress(MeshError):
            await mesh.call()

    async with trio.open_nursery() as nursery:
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            nursery.start_soon(one)
            await trio.sleep(rng.expovariate(rate))
    counts = Counter(mesh.asked)
    return {name: counts[name] / counts.total() for name in {one.id for one in mesh.instances} | set(counts)}


def takes(rng, low, high, status=200):
    async def behave(_call):
        await trio.sleep(rng.uniform(low, high))
        return Sent(status)

    return behave


@pytest.mark.parametrize("name", BALANCERS)
async def test_idle_first_index_bias(name, autojump_clock):
    """The first call of each of many processes that have just started, and nothing is under way anywhere."""
    counts = Counter()
    for seed in range(500):
        mesh = world(*"abcde", settings=MeshSettings(balancer=name), seed=seed)
        await mesh.call()
        counts[mesh.asked[0]] += 1
    assert chi_square(counts, "abcde") < CHI_SQUARE_4


@pytest.mark.parametrize("name", BALANCERS)
async def test_an_idle_service_is_called_all_over(name, autojump_clock):
    """One call after the other, so that nothing is ever under way: no instance grows cold, and none gets most."""
    rng = Random(5)
    mesh = world(*"abcde", settings=MeshSettings(balancer=name))
    mesh.behaviours = dict.fromkeys("abcde", takes(rng, 0.009, 0.011))
    for _ in range(1000):
        await mesh.call()
        await trio.sleep(0.5)
    counts = Counter(mesh.asked)
    assert all(100 < counts[name] < 400 for name in "abcde"), counts


@pytest.mark.parametrize("seed", range(2))
async def test_a_cold_join_gets_at_most_one_and_a_half_of_its_fair_share(seed, autojump_clock):
    """Ten calls are under way to ten instances: one of which nothing is known must not draw them all."""
    rng = Random(seed)
    old = "abcdefghi"
    mesh = world(*old, seed=seed)
    mesh.behaviours = dict.fromkeys((*old, "new"), takes(rng, 0.01, 0.09))
    await calls_for(mesh, 12, 200, rng)
    mesh.instances = (*mesh.instances, instance("new"))
    shares = [(await calls_for(mesh, seconds, 200, rng))["new"] for seconds in (1, 4, 5, 5)]
    assert shares[0] < 0.1
    assert max(shares) <= 1.5 * 0.1
    assert shares[-1] > 0.05
    mesh.assert_all_is_back()


@pytest.mark.parametrize("trouble", [refused, reset, answers(500), answers(503)])
@pytest.mark.parametrize("threshold", [5, 1000])
async def test_a_fast_failing_instance_gets_at_most_one_percent_of_traffic_after_warm_up(
    threshold, trouble, autojump_clock
):
    """It answers at once and has nothing under way: to a balancer that looks no further it is the best of all."""
    rng = Random(2)
    mesh = world(*"abcd", "bad", settings=MeshSettings(circuit_breaker_threshold=threshold))
    mesh.behaviours = dict.fromkeys("abcd", takes(rng, 0.01, 0.03)) | {"bad": trouble}
    await calls_for(mesh, 10, 60, rng)
    assert (await calls_for(mesh, 20, 60, rng))["bad"] <= 0.01
    mesh.assert_all_is_back()


@pytest.mark.parametrize("seed", range(4))
async def test_the_last_instance_is_never_ejected(seed, autojump_clock):
    """All of them fail now and then, and some are ill or drained: half are out at most, and one is always left."""
    rng = Random(seed)
    names = "abcdef"
    rates = dict.fromkeys(names, 0.0)
    ejected = []

    def behave(name):
        async def behave(_call):
            await trio.sleep(0.01)
            return Sent(500 if rng.random() < rates[name] else 200)

        return behave

    def told(_, ejection):
        service = mesh.service
        now = trio.current_time()
        out = [name for name in names if service.ejector.refusal(name, now)]
        left = [
            key
            for key, one in service.states.items()
            if service.availability(one, now) is Availability.AVAILABLE
            and one.breaker.state is not State.OPEN
        ]
        assert len(out) <= len(service.states) / 2
        assert left, (ejection, out)
        ejected.append(ejection.key)

    settings = MeshSettings(circuit_breaker_threshold=1000, retries=0, balancer="round_robin")
    mesh = World(tuple(map(instance, names)), settings=settings, observer=Observer(told=Told(ejected=told)))
    mesh.behaviours = {name: behave(name) for name in names}
    for _ in range(12):
        for name in names:
            rates[name] = rng.choice((0, 0, 0, 0.45))
        mesh.instances = tuple(
            instance(name, well=rng.random() < 0.9, draining=rng.random() < 0.1) for name in names
        )
        await calls_for(mesh, 10, 25, rng)
    assert ejected
