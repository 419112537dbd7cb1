"""Whole services under simulated load: what the slow, the failing and the new instances get."""

from random import Random

import pytest

from benchmarks.harness.load import Load, failing, steady
from econeura_daemon.resilience.balancers import balancer


def test_a_fast_failing_instance_gets_at_most_one_percent_after_warm_up():
    load = Load(balancer(), {n: steady(0.01) for n in range(4)} | {"bad": failing(0.0005)}, Random(3), 200)
    load.run(40)
    assert load.shares(10, 40)["bad"] <= 0.01


@pytest.mark.parametrize("seed", range(4))
def test_a_cold_join_gets_at_most_one_and_a_half_of_its_fair_share(seed):
    load = Load(balancer(), {n: steady(0.01) for n in range(9)}, Random(seed), 1000)
    load.run(20)
    load.join("new", steady(0.01))
    load.run(20)
    assert load.shares(20, 21)["new"] < 0.1  # at first it gets less than its share, not all there is
    for since in (20, 25, 30, 35):
        assert 0.03 < load.shares(since, since + 5)["new"] <= 1.5 * 0.1


def test_a_slow_instance_gets_little_and_equal_ones_get_equal_parts():
    load = Load(balancer(), {n: steady(0.01) for n in range(9)} | {"slow": steady(0.1)}, Random(5), 1000)
    load.run(30)
    shares = load.shares(10, 30)
    assert shares.pop("slow") < 0.01
    assert min(shares.values()) > 0.07
    assert max(shares.values()) < 0.15


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("least_cost", 0.044, 0.050), ("least_connections", 0.055, 0.068), ("p2c", 0.066, 0.084)],
)
def test_one_of_ten_hosts_ten_times_slower_hardly_shows_with_least_cost(name, low, high):
    """2,000 calls/s, 10 ms each, eight at once on a host: the p99 of the last half of twenty seconds."""
    load = Load(
        balancer(name), {n: steady(0.01) for n in range(9)} | {9: steady(0.1)}, Random(1), 2000, at_once=8
    )
    load.run(20)
    assert low < load.percentile(0.99, since=10) < high
