"""Counting windows, adaptive limits, token buckets, retry budgets, slow starts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from econeura_daemon.resilience.adaptive import AdaptivePolicy
from econeura_daemon.resilience.bucket import TokenBucket
from econeura_daemon.resilience.budget import Budget, BudgetPolicy
from econeura_daemon.resilience.slow_start import share
from econeura_daemon.resilience.window import Window

EIGHTHS = st.integers(0, 400).map(lambda each: each / 8)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.25, 1.0, 1.0, 2.5, 40.0]), st.integers(0, 3), st.integers(0, 3))
    )
)
def test_a_window_counts_what_a_list_of_instants_counts(steps):
    window, now, seen = Window(10.0, 10), 0.0, []
    for passes, number, part in steps:
        now += passes
        window.count(now, number, part)
        seen.append((int(now), number, part))
        recent = [each for each in seen if each[0] > int(now) - 10]
        assert (window.all, window.part) == (sum(e[1] for e in recent), sum(e[2] for e in recent))


def test_a_window_whose_time_goes_back_forgets_nothing():
    window = Window()
    window.count(100.0, 3, 1)
    window.count(50.0, 2, 2)
    assert (window.all, window.part) == (5, 3)


@pytest.mark.parametrize(
    ("limit", "in_flight", "after"),
    [(20, 9, 20), (20, 10, 21), (20, 20, 21), (1, 1, 2), (200, 200, 200), (199, 100, 200)],
)
def test_an_adaptive_limit_grows_while_half_of_it_is_used(limit, in_flight, after):
    assert AdaptivePolicy().after_success(limit, in_flight) == after


@pytest.mark.parametrize(("limit", "after"), [(200, 180), (20, 18), (9, 8), (2, 1), (1, 1)])
def test_a_drop_takes_a_tenth_and_leaves_one(limit, after):
    assert AdaptivePolicy().after_drop(limit) == after


def test_an_adaptive_policy_whose_bounds_cross_is_refused():
    with pytest.raises(ValueError, match="minimum <= initial <= maximum"):
        AdaptivePolicy(initial=5, minimum=6)


def test_a_bucket_gives_its_burst_at_once_and_its_rate_ever_after():
    bucket = TokenBucket(rate=4.0, burst=3.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.ready_at(0.0) == 0.25
    assert not bucket.take(0.2)
    assert bucket.take(0.25)
    assert bucket.tokens(1000.0) == 3.0


def test_more_tokens_than_the_burst_are_refused_for_good():
    with pytest.raises(ValueError, match="at most the burst of 3"):
        TokenBucket(4.0, 3.0).ready_at(0.0, 4.0)


@given(
    st.floats(0.1, 1000),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 50))),
    EIGHTHS,
)
def test_no_stretch_of_time_sees_more_than_burst_and_rate_allow(rate, burst, steps, start):
    bucket, now, taken = TokenBucket(rate, burst), start, []
    for passes, tokens in steps:
        now += passes
        wanted = min(tokens, burst)
        if not bucket.take(now, wanted):
            ready = bucket.ready_at(now, wanted)
            assert ready > now
            assert bucket.take(ready, wanted)  # it keeps its word
            now = ready
        taken.append((now, wanted))
        for begin in range(len(taken)):
            since = taken[begin][0]
            assert sum(n for _, n in taken[begin:]) <= burst + rate * (now - since) + 1e-6 * burst


@pytest.mark.parametrize(
    ("calls", "retries"),
    [(0, 30), (10, 31), (100, 40), (1000, 130)],
)
def test_retries_of_ten_seconds_are_a_tenth_of_the_calls_and_thirty(calls, retries):
    budget = Budget()
    for _ in range(calls):
        budget.begin(0.0)
        budget.end()
    given_out = 0
    while budget.begin_retry(1.0) is None:
        budget.end_retry()
        given_out += 1
    assert given_out == retries
    assert budget.begin_retry(1.0).reason == (
        f"{retries} retries of {calls} calls within 10 s spent the retry budget"
    )
    assert budget.refusal(12.0) is None


@pytest.mark.parametrize(("in_flight", "active"), [(0, 3), (15, 3), (20, 4), (100, 20)])
def test_retries_under_way_are_a_fifth_of_the_calls_under_way_and_three_at_least(in_flight, active):
    budget = Budget()
    for _ in range(in_flight):
        budget.begin(0.0)
    given_out = 0
    while (refusal := budget.begin_retry(0.0)) is None:
        given_out += 1
    assert given_out == active
    assert refusal.reason == f"{active} retries are under way among {in_flight} calls"
    budget.end_retry()
    assert budget.begin_retry(0.0) is None


class BudgetModel(RuleBasedStateMachine):
    """The naive model keeps the second of every call and of every retry."""

    def __init__(self):
        super().__init__()
        self.policy = BudgetPolicy(ratio=0.5, reserve=2, min_active=1, active_ratio=0.5)
        self.budget, self.now = Budget(self.policy), 0.0
        self.calls, self.retries, self.in_flight, self.active = [], [], 0, 0

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 30.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def call_begins(self):
        self.budget.begin(self.now)
        self.calls.append(int(self.now))
        self.in_flight += 1

    @precondition(lambda self: self.in_flight)
    @rule()
    def call_ends(self):
        self.budget.end()
        self.in_flight -= 1

    @rule()
    def retry_begins(self):
        calls, retries = (sum(at > int(self.now) - 10 for at in each) for each in (self.calls, self.retries))
        fits = retries + 1 <= 0.5 * calls + 2 and self.active + 1 <= max(1, 0.5 * self.in_flight)
        assert (self.budget.begin_retry(self.now) is None) == fits
        if fits:
            self.retries.append(int(self.now))
            self.active += 1

    @precondition(lambda self: self.active)
    @rule()
    def retry_ends(self):
        self.budget.end_retry()
        self.active -= 1


TestBudgetBesideTheModel = BudgetModel.TestCase


def test_a_budget_can_be_without_retries():
    assert Budget(BudgetPolicy(ratio=0, reserve=0)).begin_retry(0.0) is not None


@pytest.mark.parametrize(("age", "part"), [(0, 0.1), (0.5, 0.1), (5, 0.5), (9, 0.9), (10, 1), (99, 1)])
def test_a_slow_start_rises_from_a_tenth_to_all_in_ten_seconds(age, part):
    assert share(age, 10.0) == part
    assert share(age, 0.0) == 1.0


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1)])
def test_a_bucket_without_a_rate_is_refused(rate, burst):
    with pytest.raises(ValueError, match="rate > 0"):
        TokenBucket(rate, burst)
