"""Ejection of outliers, and panic when too few are left."""

import pytest

from econeura_daemon.resilience.ejection import EjectionPolicy, Ejector
from econeura_daemon.resilience.outcomes import Verdict
from econeura_daemon.resilience.panic import Availability, candidates

UP, DOWN, DRAINED = Availability.AVAILABLE, Availability.UNAVAILABLE, Availability.DRAINED
NEW = Availability.UNKNOWN


def fed(rates, requests=100, policy=None):
    ejector = Ejector(policy)
    feed(ejector, rates, requests)
    return ejector


def feed(ejector, rates, requests=100):
    for key, rate in rates.items():
        for n in range(requests):
            ejector.record(key, Verdict.SUCCESS if n < rate * requests else Verdict.FAILURE)


def swept(rates, requests=100):
    ejector = fed(rates, requests)
    return [ejection.key for ejection in ejector.sweep(rates, len(rates), 0.0)]


@pytest.mark.parametrize(
    ("rates", "ejected"),
    [
        ([1.0, 1.0, 0.5], [2]),
        ([1.0, 1.0, 0.0, 1.0], [2]),
        ([1.0, 1.0, 0.95], []),  # within five points, though the others have no deviation at all
        ([1.0, 1.0, 0.89], [2]),
        ([0.9, 0.65, 0.7], []),  # all differ: no outlier
        ([0.5, 0.5, 0.5, 0.5], []),  # as bad as everybody else
        ([1.0] * 9 + [0.99], []),
        ([0.2, 0.1, *[1.0] * 8], [1, 0]),  # the worst first
        ([1.0, 0.0], []),  # two cannot be compared
    ],
)
def test_an_instance_far_below_its_peers_is_ejected(rates, ejected):
    assert swept(dict(enumerate(rates))) == ejected


def test_the_reason_and_the_end_are_told():
    ejector = fed({"a": 1.0, "b": 1.0, "c": 0.5})
    (ejection,) = ejector.sweep("abc", 3, 100.0)
    assert ejection.reason == "50% of its calls succeeded, of its peers' 100%"
    refusal = ejector.refusal("c", 129.9)
    assert (refusal.reason, refusal.until) == (ejection.reason, 130.0)
    assert ejector.refusal("c", 130.0) is None
    assert ejector.refusal("a", 100.0) is None


def test_fewer_than_twenty_calls_are_not_judged():
    assert swept({"a": 1.0, "b": 1.0, "c": 0.0}, requests=19) == []
    assert swept({"a": 1.0, "b": 1.0, "c": 0.0}, requests=20) == ["c"]


def test_what_says_nothing_of_an_instance_is_not_counted():
    ejector = fed({"a": 1.0, "b": 1.0})
    for _ in range(1000):
        ejector.record("c", Verdict.NEUTRAL)
    assert ejector.sweep("abc", 3, 0.0) == []


def test_at_most_half_is_out_at_once():
    strict = EjectionPolicy(deviations=0.0)  # whoever is worse than the mean of its peers
    ejector = fed({key: key / 100 for key in range(4)} | {4: 1.0, 5: 1.0}, policy=strict)
    assert [ejection.key for ejection in ejector.sweep(range(6), 6, 0.0)] == [0, 1, 2]
    feed(ejector, {3: 0.0, 4: 1.0, 5: 1.0})
    assert ejector.sweep(range(3, 6), 6, 10.0) == []  # those that are out already count


def test_the_last_instance_is_never_ejected():
    """Whatever took the others out: nobody is left but the one, and it stays."""
    ejector = fed({"a": 0.0, "b": 1.0, "c": 1.0, "d": 1.0}, policy=EjectionPolicy(max_part=1.0))
    assert ejector.sweep(["a"], 4, 0.0) == []
    policy = EjectionPolicy(max_part=1.0, deviations=0.0, min_deviation=0.0, min_hosts=2)
    ejector, usable, now = Ejector(policy), set(range(10)), 0.0
    for _ in range(40):
        feed(ejector, {key: key / 10 for key in usable})
        usable -= {ejection.key for ejection in ejector.sweep(usable, 10, now)}
        now += 0.1
        assert usable
    assert len(usable) == 1


def test_each_ejection_lasts_longer_and_clean_sweeps_shorten_the_next():
    ejector, now, lasted = Ejector(), 0.0, []
    for _ in range(12):
        feed(ejector, {"a": 1.0, "b": 1.0, "c": 0.0})
        (ejection,) = ejector.sweep("abc", 3, now)
        lasted.append(ejection.until - now)
        now = ejection.until
        assert ejector.returned(now - 0.1) == []
        assert ejector.returned(now) == [ejection]
        assert ejector.returned(now) == []
    assert lasted == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    for _ in range(11):  # one step a clean sweep
        feed(ejector, dict.fromkeys("abc", 1.0))
        assert ejector.sweep("abc", 3, now) == []
    feed(ejector, {"a": 1.0, "b": 1.0, "c": 0.0})
    (ejection,) = ejector.sweep("abc", 3, now)
    assert ejection.until - now == 60


def test_what_was_counted_before_a_sweep_does_not_count_after_it():
    ejector = fed({"a": 1.0, "b": 1.0, "c": 0.0})
    ejector.sweep([], 3, 0.0)
    assert ejector.sweep("abc", 3, 10.0) == []


def test_an_instance_that_left_is_forgotten():
    ejector = fed({"a": 1.0, "b": 1.0, "c": 0.0})
    ejector.sweep("abc", 3, 0.0)
    ejector.forget("c")
    assert ejector.refusal("c", 1.0) is None
    assert ejector.returned(1e9) == []


@pytest.mark.parametrize(
    ("states", "keys", "is_panic"),
    [
        ([UP, UP, DOWN], [0, 1], False),
        ([UP, DOWN], [0], False),
        ([UP, DOWN, DOWN], [0, 1, 2], True),
        ([DOWN], [0], True),
        ([UP, DOWN, DOWN, DRAINED], [0, 1, 2], True),
        ([UP, DRAINED, DRAINED, DRAINED], [0], False),
        ([DRAINED, DRAINED], [], False),
        ([], [], False),
        ([NEW], [0], False),
        ([NEW, DRAINED], [0], False),
        ([UP, UP, NEW, NEW, NEW, NEW, NEW], [0, 1], False),
        ([UP, DOWN, NEW], [0], False),
        ([UP, DOWN, DOWN, NEW], [0, 1, 2, 3], True),
        ([DOWN, NEW], [0, 1], True),
    ],
)
def test_below_half_available_all_are_used_but_never_the_drained(states, keys, is_panic):
    found = candidates(dict(enumerate(states)))
    assert (list(found.keys), found.is_panic) == (keys, is_panic)
