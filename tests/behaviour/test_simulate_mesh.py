"""The short form of `benchmarks.simulate_mesh`: the criteria of each table, with room for the next change."""

from math import inf

import pytest

from benchmarks.harness.storm import Parts, Storm, Trouble, run
from benchmarks.simulate_mesh import PLAIN, slow_host, supermarket, two_choices_in_theory


@pytest.mark.parametrize("load", [0.5, 0.7, 0.9])
def test_two_choices_are_as_good_as_the_theory_says(load):
    assert supermarket(load, 60_000) == pytest.approx(two_choices_in_theory(load), rel=0.1)


def test_the_default_balancer_bears_a_slow_host_and_round_robin_never_gets_over_it():
    assert 44 < slow_host("least_cost") < 50
    assert slow_host("the cheaper of two") < 54
    assert slow_host("round_robin", 10) > 1000
    assert slow_host("round_robin", 20) > 1.5 * slow_host("round_robin", 10)


def test_a_service_that_was_slow_is_back_within_fifteen_seconds_and_its_retries_are_few():
    course = run(Storm(before=3, after=18))
    assert course.answered(0, 3) == 1
    assert course.answered(4, 8) < 0.5  # it was a storm
    assert course.recovery <= 12
    assert course.amplification <= 1.2
    assert course.peak <= 1.3


SMALL = Storm(rate=140, hosts=2, before=3, after=15)
"""A fifth of it."""


def test_retries_without_a_budget_never_let_a_service_recover():
    course = run(SMALL, PLAIN)
    assert course.recovery == inf
    assert course.answered(15, 23) < 0.05
    assert course.amplification > 2


def test_without_retries_the_same_service_recovers_when_its_queue_is_worked_off():
    course = run(SMALL, Parts(retries=0, budget=False, limit=False, breakers=False))
    assert course.recovery <= 12
    assert course.amplification == 1


def test_breakers_that_each_wait_for_themselves_keep_a_service_down_that_is_well_again():
    assert run(SMALL, Parts(hurry=False)).recovery == inf


@pytest.mark.parametrize(
    "trouble", [Trouble(slower=2), Trouble(status=503), Trouble(refuses=True)], ids=["slow", "503", "refused"]
)
def test_other_troubles_of_all_hosts_end_soon_after_they_ended(trouble):
    course = run(Storm(rate=210, hosts=3, before=3, lasts=12, after=18, trouble=trouble))
    assert course.answered(4, 15) < 0.75
    assert course.recovery <= 13
    assert course.amplification <= 1.2
