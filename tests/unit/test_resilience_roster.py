"""What an instance costs: its answers, failures, silence; then random histories beside lists made anew."""

from collections import Counter
from math import exp
from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from econeura_daemon.resilience.balancers import balancer, pick
from econeura_daemon.resilience.roster import Roster
from tests.support.rosters import answer, known, picks, roster_of


def test_a_failure_costs_a_second_that_fades():
    roster = known({"a": 0.01, "b": 0.01})
    answer(roster, "a", 0.0, 0.001, failed=True)
    assert roster.latency(roster.members["a"], 0.0) == pytest.approx(1.01)
    assert roster.latency(roster.members["a"], 20.0) == pytest.approx(1.01 * exp(-2))
    assert set(picks("least_cost", roster, 20)) == {"b"}


def test_fading_penalty_and_slow_start_can_be_set_and_so_can_a_weight():
    roster = Roster(fade=1.0, penalty=3.0, slow_start=100.0)
    for key in "ab":
        roster.join(key, 0.0)
    answer(roster, "a", 0.0, 1.0, failed=True)
    assert roster.latency(roster.members["a"], 2.0) == pytest.approx(4.0 * exp(-2))
    assert roster.share(roster.join("c", 1000.0), 1050.0) == 0.5
    roster.weigh(roster.members["b"], 10.0)
    assert set(picks("least_cost", roster, 20, skip=[roster.members["c"]])) == {"b"}
    with pytest.raises(ValueError, match="weight > 0, got 0"):
        roster.weigh(roster.members["b"], 0)
    with pytest.raises(ValueError, match="fade > 0"):
        Roster(fade=0)
    with pytest.raises(ValueError, match="a member already"):
        roster.join("c", 0.0)


def test_a_cancelled_call_leaves_the_cost_as_it_was():
    roster = known({"a": 0.01, "b": 0.02})
    before = list(roster.costs)
    for _ in range(100):
        answer(roster, "a", 0.0, None)
    assert roster.costs == before
    assert roster.members["a"].in_flight == 0


def test_a_newcomer_costs_what_the_median_of_its_peers_costs():
    roster = known({"a": 0.01, "b": 0.02, "c": 0.5})
    newcomer = roster.join("d", 3.0)
    assert roster.latency(newcomer, 3.0) == pytest.approx(0.02 * exp(-0.3))
    answer(roster, "d", 3.0, 0.4)
    assert roster.latency(newcomer, 3.0) == pytest.approx((0.02 * exp(-0.3) + 0.4) / 2)


def test_who_was_not_called_for_a_while_draws_no_burst():
    """Its latency has faded to nothing; it is taken for the median until it answers."""
    roster = known({"a": 0.01, "b": 0.01, "slow": 0.2})
    for tenth in range(600):
        for key in "ab":
            answer(roster, key, tenth / 10, 0.01)
    chooser, rng, chosen = balancer(), Random(1), Counter()
    for _ in range(30):
        member = pick(chooser, roster, 60.0, rng)
        roster.begin(member, 60.0)
        chosen[member.key] += 1
    assert 1 <= chosen["slow"] <= 11
    roster.end(roster.members["slow"], 60.2, 0.2)
    assert roster.latency(roster.members["slow"], 60.2) == pytest.approx(0.105, rel=0.03)


def test_who_hangs_does_not_become_cheap_by_saying_nothing():
    roster = known({"a": 0.01, "b": 0.01})
    chooser, rng, chosen = balancer(), Random(1), Counter()
    for tenth in range(3000):  # five minutes
        now = tenth / 10
        member = pick(chooser, roster, now, rng)
        chosen[member.key] += 1
        roster.begin(member, now)
        if member.key == "a":
            roster.end(member, now + 0.01, 0.01)
    assert chosen["b"] < 40


def test_costs_stay_in_order_over_years():
    roster = known({"a": 0.01, "b": 0.02})
    hung = roster.members["b"]
    roster.begin(hung, 0.0)
    for now in (1e3, 1e5, 1e7, 1e9):
        roster.begin(hung, now)
        for _ in range(100):
            answer(roster, "a", now, 0.01)
        assert roster.latency(roster.members["a"], now) == pytest.approx(0.01, rel=0.02)
        assert roster.latency(hung, now) == pytest.approx(0.02)
        assert 0 < roster.costs[0] < roster.costs[1]


class RosterModel(RuleBasedStateMachine):
    """The lists that are kept up to date beside those that are computed anew."""

    def __init__(self):
        super().__init__()
        self.roster, self.now, self.rng, self.next = Roster(), 0.0, Random(1), 0
        self.unusable = set()

    def any_of(self, which):
        return list(self.roster)[which % len(self.roster)]

    @rule(weight=st.floats(0.1, 10), seconds=st.floats(0, 1000))
    def join(self, weight, seconds):
        self.now += seconds
        self.next += 1
        self.roster.join(self.next, self.now, weight)

    @precondition(lambda self: self.roster.members)
    @rule(which=st.integers(0, 99), usable=st.booleans())
    def set_usable(self, which, usable):
        member = self.any_of(which)
        self.roster.set_usable(member, usable=usable)
        (self.unusable.discard if usable else self.unusable.add)(member)

    @precondition(lambda self: self.roster.members)
    @rule(which=st.integers(0, 99))
    def leave(self, which):
        self.roster.leave(self.any_of(which).key)

    @precondition(lambda self: self.roster.members)
    @rule(
        which=st.integers(0, 99),
        seconds=st.floats(0, 30),
        latency=st.none() | st.floats(0, 30),
        failed=st.booleans(),
    )
    def call(self, which, seconds, latency, failed):
        member = self.any_of(which)
        self.now += seconds
        self.roster.begin(member, self.now)
        if latency is not None:
            self.roster.end(member, self.now, latency, failed=failed)

    @invariant()
    def lists_say_what_members_say(self):
        roster = self.roster
        assert set(roster.usable) == set(roster) - self.unusable
        for place, member in enumerate(roster.usable):
            assert member.place == place
            assert roster.loads[place] == (member.in_flight + 1) / member.weight
            assert roster.costs[place] == pytest.approx(member.cost * roster.loads[place])
        least = pick(balancer(), roster, self.now + 1e9, self.rng)
        if roster.usable:
            assert roster.costs[least.place] == min(roster.costs)
        assert roster.oldest == min((member.joined_at for member in roster), default=0.0)


TestRosterBesideTheModel = RosterModel.TestCase


def test_latencies_are_means_of_all_answers_whatever_their_order():
    roster = roster_of({"a": 1.0})
    for n in range(1, 2000):
        answer(roster, "a", n / 1000, 0.03 if n % 2 else 0.01)
    assert roster.latency(roster.members["a"], 1.999) == pytest.approx(0.02, rel=0.01)
