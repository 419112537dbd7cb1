"""The breaker: what opens it, how long, what closes it; then random histories beside a naive model."""

from random import Random

import attrs
import pytest

from econeura_daemon.resilience.breaker import Breaker, State
from econeura_daemon.resilience.breaker_policy import BreakerPolicy
from econeura_daemon.resilience.outcomes import Verdict
from econeura_daemon.resilience.refusal import Refusal

STEADY = BreakerPolicy(jitter=0.0, ramp=0.0)
OK, FAIL, BUSY, NOTHING = Verdict.SUCCESS, Verdict.FAILURE, Verdict.RATE_ONLY, Verdict.NEUTRAL
RNG = Random(5)


def call(breaker, verdict, now=0.0, cause="timed out"):
    generation = breaker.admit(now, RNG)
    assert isinstance(generation, int), generation
    breaker.record(generation, verdict, now, RNG, cause)


def opened(policy=STEADY, now=0.0):
    breaker = Breaker(policy)
    for _ in range(5):
        call(breaker, FAIL, now)
    assert breaker.phase.state is State.OPEN
    return breaker


def half_open(policy=STEADY):
    breaker = opened(policy)
    breaker.turn(breaker.phase.until, RNG)
    assert breaker.phase.state is State.HALF_OPEN
    return breaker, breaker.phase.since


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ([FAIL] * 4, State.CLOSED),
        ([FAIL] * 5, State.OPEN),
        ([FAIL] * 4 + [OK] + [FAIL] * 4, State.CLOSED),
        ([FAIL] * 4 + [NOTHING] * 9 + [FAIL], State.OPEN),
        ([FAIL] * 4 + [BUSY] + [FAIL], State.OPEN),
        ([BUSY] * 19, State.CLOSED),
        ([BUSY] * 20, State.OPEN),
        ([OK, BUSY] * 9 + [OK], State.CLOSED),
        ([OK, BUSY] * 10, State.OPEN),
        ([OK] * 11 + [FAIL, OK] * 9, State.CLOSED),
        ([NOTHING] * 1000, State.CLOSED),
    ],
)
def test_five_failures_in_a_row_or_half_of_twenty_calls_open_it(verdicts, state):
    breaker = Breaker(STEADY)
    for verdict in verdicts:
        call(breaker, verdict)
    assert breaker.phase.state is state


def test_failures_of_more_than_ten_seconds_ago_do_not_count_in_the_rate():
    breaker = Breaker(STEADY)
    for n in range(19):
        call(breaker, BUSY, n * 0.2)
    call(breaker, BUSY, 11.5)
    assert breaker.phase.state is State.CLOSED
    assert breaker.counts(11.5) == (10, 10)  # those of the last ten seconds, by whole buckets


def test_a_thousand_answers_of_404_leave_it_closed():
    breaker = Breaker()
    for n in range(1000):
        call(breaker, Verdict.NEUTRAL, n * 0.001)
    assert breaker.phase.state is State.CLOSED
    assert breaker.counts(1.0) == (0, 0)


def test_it_says_why_it_refuses_and_until_when():
    breaker = opened(now=7.0)
    refusal = breaker.admit(8.0, RNG)
    assert refusal == Refusal("5 failures in a row, the last: timed out", 67.0)
    by_rate = Breaker(STEADY)
    for _ in range(20):
        call(by_rate, BUSY, cause="answered 429")
    assert by_rate.refusal(1.0, RNG).reason == "20 of 20 calls failed within 10 s, the last: answered 429"


def test_each_further_opening_lasts_twice_as_long_up_to_ten_minutes():
    breaker, lasted = opened(), []
    for _ in range(7):
        phase = breaker.phase
        lasted.append(phase.until - phase.since)
        call(breaker, FAIL, phase.until)
    assert lasted == [60, 120, 240, 480, 600, 600, 600]


def test_openings_are_jittered_by_a_tenth():
    lasted = [opened(BreakerPolicy()).phase.until for _ in range(500)]
    assert 54 <= min(lasted) < 55
    assert 65 < max(lasted) <= 66


def test_a_hundred_calls_at_once_in_half_open_admit_exactly_three():
    breaker, now = half_open()
    admitted = [breaker.admit(now, RNG) for _ in range(100)]
    assert sum(isinstance(each, int) for each in admitted) == 3
    assert "trials are under way" in admitted[-1].reason
    assert admitted[-1].until == now + 30


def test_trials_that_succeeded_count_among_the_three():
    breaker, now = half_open()
    call(breaker, OK, now)
    assert sum(isinstance(breaker.admit(now, RNG), int) for _ in range(100)) == 2


@pytest.mark.parametrize(
    ("trials", "successes", "admitted"),
    [(1, 3, 1), (3, 1, 1), (2, 5, 2)],  # no more than are needed, no more at once than are allowed
)
def test_trials_at_once_and_successes_wanted_may_differ(trials, successes, admitted):
    breaker, now = half_open(attrs.evolve(STEADY, trials=trials, successes=successes))
    assert sum(isinstance(breaker.admit(now, RNG), int) for _ in range(100)) == admitted
    for _ in range(successes):
        assert breaker.phase.state is State.HALF_OPEN
        breaker.record(breaker.phase.generation, OK, now, RNG)
        breaker.admit(now, RNG)
    assert breaker.phase.state is State.CLOSED


def test_three_successes_close_it_and_one_failure_opens_it_again():
    breaker, now = half_open()
    for _ in range(3):
        call(breaker, OK, now)
    assert breaker.phase.state is State.CLOSED
    breaker, now = half_open()
    for verdict in (OK, OK, FAIL):
        call(breaker, verdict, now)
    assert breaker.phase.state is State.OPEN
    assert breaker.phase.reason == "a trial failed: timed out"


@pytest.mark.parametrize("verdict", [NOTHING, BUSY])
def test_a_cancelled_trial_does_not_wedge_it(verdict):
    breaker, now = half_open()
    for _ in range(50):
        call(breaker, verdict, now)
    assert breaker.trials == 0
    for _ in range(3):
        call(breaker, OK, now)
    assert breaker.phase.state is State.CLOSED


def test_a_late_success_of_an_older_generation_does_not_close_it():
    breaker = Breaker(STEADY)
    slow = [breaker.admit(0.0, RNG) for _ in range(10)]
    for _ in range(5):
        call(breaker, FAIL, 1.0)
    for generation in slow[:5]:
        breaker.record(generation, OK, 2.0, RNG)
    assert breaker.phase.state is State.OPEN
    breaker.turn(61.0, RNG)
    for generation in slow[5:]:
        breaker.record(generation, OK, 62.0, RNG)
    assert breaker.phase.state is State.HALF_OPEN
    assert (breaker.successes, breaker.trials) == (0, 0)


def test_a_late_failure_of_an_older_generation_does_not_open_it():
    breaker, now = half_open()
    for _ in range(3):
        call(breaker, OK, now)
    for _ in range(10):
        breaker.record(0, FAIL, now, RNG)
    assert breaker.phase.state is State.CLOSED
    assert breaker.failures_in_a_row == 0


@pytest.mark.parametrize(("timeout", "patience"), [(5.0, 30.0), (60.0, 120.0)])
def test_trials_without_a_verdict_open_it_again(timeout, patience):
    breaker, now = half_open(attrs.evolve(STEADY, timeout=timeout))
    generation = breaker.admit(now, RNG)  # its caller vanishes
    breaker.turn(now + patience - 0.1, RNG)
    assert breaker.phase.state is State.HALF_OPEN
    breaker.turn(now + patience, RNG)
    assert breaker.phase.state is State.OPEN
    assert breaker.phase.reason == f"trials brought no verdict within {patience:g} s"
    breaker.record(generation, OK, now + patience + 1, RNG)
    assert breaker.phase.state is State.OPEN


def test_a_verdict_after_the_patience_is_none_even_if_nobody_looked_meanwhile():
    breaker, now = half_open()
    generation = breaker.admit(now, RNG)
    breaker.record(generation, OK, now + 31, RNG)
    assert breaker.phase.state is State.OPEN


def test_one_cancelled_trial_after_the_other_opens_it_again():
    """An instance that hangs, and callers that give up after nine seconds."""
    breaker, now = half_open()
    for _ in range(3):
        generation = breaker.admit(now, RNG)
        now += 9
        breaker.record(generation, NOTHING, now, RNG)
        now += 100  # nobody calls: this time does not count
    assert isinstance(breaker.admit(now, RNG), int)
    breaker.turn(now + 2.9, RNG)
    assert breaker.phase.state is State.HALF_OPEN
    breaker.turn(now + 3.0, RNG)
    assert breaker.phase.state is State.OPEN


def test_a_success_renews_the_patience():
    breaker, now = half_open()
    for verdict in (NOTHING, OK, NOTHING, OK):
        generation = breaker.admit(now, RNG)
        now += 20 if verdict is NOTHING else 5
        breaker.record(generation, verdict, now, RNG)
    assert breaker.successes == 2
    breaker.admit(now, RNG)
    breaker.turn(now + 29.9, RNG)
    assert breaker.phase.state is State.HALF_OPEN


def test_an_idle_half_open_breaker_waits():
    breaker, now = half_open()
    call(breaker, OK, now)
    breaker.turn(now + 1e6, RNG)
    assert breaker.phase.state is State.HALF_OPEN
    call(breaker, OK, now + 1e6)
    call(breaker, OK, now + 2e6)
    assert breaker.phase.state is State.CLOSED


def test_after_closing_admission_rises_over_ten_seconds():
    breaker, now = half_open(BreakerPolicy())
    for _ in range(3):
        call(breaker, OK, now)
    shares = []
    for second in (0.0, 2.5, 5.0, 7.5, 10.0):
        admitted = [breaker.admit(now + second, RNG) for _ in range(2000)]
        shares.append(sum(isinstance(each, int) for each in admitted) / 2000)
    assert shares == pytest.approx([0.1, 0.25, 0.5, 0.75, 1.0], abs=0.04)


def test_an_opening_before_it_has_recovered_counts_as_a_further_one():
    policy = attrs.evolve(STEADY, ramp=10.0)
    for later, lasts in ((5.0, 120), (10.0, 60)):
        breaker, now = half_open(policy)
        for _ in range(3):
            call(breaker, OK, now)
        generation = breaker.phase.generation
        for _ in range(5):
            breaker.record(generation, FAIL, now + later, RNG)
        assert breaker.phase.until - breaker.phase.since == lasts


def test_a_breaker_of_whole_calls_knows_only_the_rate():
    breaker = Breaker(attrs.evolve(STEADY, failures_in_a_row=None))
    for _ in range(19):
        call(breaker, FAIL)
    assert breaker.phase.state is State.CLOSED
    call(breaker, FAIL)
    assert breaker.phase.state is State.OPEN


def test_every_change_is_told_once_and_in_order():
    told = []
    breaker = Breaker(STEADY, told.append)
    for _ in range(5):
        call(breaker, FAIL)
    breaker.admit(60.0, RNG)
    breaker.turn(1000.0, RNG)  # the trial was lost: open again, and over again
    assert [(phase.state, phase.since) for phase in told] == [
        (State.OPEN, 0.0),
        (State.HALF_OPEN, 60.0),
        (State.OPEN, 90.0),
        (State.HALF_OPEN, 210.0),
    ]


@pytest.mark.parametrize("wrong", [{"trials": 0}, {"failure_rate": 1.5}, {"jitter": -1}, {"min_calls": 0}])
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        BreakerPolicy(**wrong)


def test_trials_that_are_hastened_begin_then_and_not_before():
    breaker = opened()
    breaker.hasten(5.0)
    breaker.turn(4.9, RNG)
    assert breaker.phase.state is State.OPEN
    breaker.turn(5.0, RNG)
    assert breaker.phase.state is State.HALF_OPEN


def test_an_opening_that_was_cut_short_does_not_lengthen_the_next_one():
    breaker = opened()
    breaker.hasten(5.0)
    call(breaker, FAIL, 5.0)
    assert (breaker.phase.state, breaker.phase.until) == (State.OPEN, 5.0 + 60.0)
    call(breaker, FAIL, 65.0)
    assert breaker.phase.until == 65.0 + 120.0


def test_hastening_neither_delays_trials_nor_touches_a_breaker_that_is_not_open():
    breaker = opened()
    breaker.hasten(61.0)
    assert breaker.phase.until == 60.0
    closed, (trying, _) = Breaker(STEADY), half_open()
    for one in (closed, trying):
        before = one.phase
        one.hasten(0.0)
        assert one.phase == before
