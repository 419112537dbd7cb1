"""Who gets the next call: order and ties, weights, newcomers; then whole services under simulated load."""

from collections import Counter
from math import exp
from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from econeura_daemon.resilience.balancers import BALANCERS, balancer, pick
from econeura_daemon.resilience.roster import Roster
from tests.support.load import Load, failing, steady

CHI_SQUARE_9 = 27.88
"""What chi-square with nine degrees of freedom exceeds once in a thousand times."""


class Zero(Random):
    """Dice that always show the least."""

    def random(self):
        return 0.0


def roster_of(weights, now=0.0):
    roster = Roster()
    for key, weight in weights.items():
        roster.join(key, now, weight)
    return roster


def picks(name, roster, count, rng=None, now=0.0, skip=()):
    chooser, rng = balancer(name), rng or Random(1)
    return [pick(chooser, roster, now, rng, skip).key for _ in range(count)]


def known(latencies, now=0.0):
    """Return a roster whose members have answered often, in so many seconds."""
    return taught(roster_of(dict.fromkeys(latencies, 1.0), now), latencies)


def taught(roster, latencies):
    for key, latency in latencies.items():
        member = roster.members[key]
        member.cost, member.answers = latency, 1e9
        roster._changed(member)
    return roster


def answer(roster, key, now, latency, **how):
    member = roster.members[key]
    roster.begin(member, now)
    roster.end(member, now, latency, **how)


@pytest.mark.parametrize("name", BALANCERS)
def test_idle_instances_have_no_first_index_bias(name):
    """Each pick by a caller of its own, as when many processes start at once."""
    rng, counts = Random(11), Counter()
    for _ in range(4000):
        counts.update(picks(name, roster_of(dict.fromkeys(range(10), 1.0)), 1, rng))
    assert sum((counts[key] - 400) ** 2 / 400 for key in range(10)) < CHI_SQUARE_9


@pytest.mark.parametrize("name", BALANCERS)
def test_an_empty_roster_and_one_that_is_all_skipped_give_nobody(name):
    chooser, rng = balancer(name), Random(1)
    assert pick(chooser, Roster(), 0.0, rng) is None
    roster = roster_of({"a": 1, "b": 1})
    assert pick(chooser, roster, 0.0, rng, list(roster)) is None


@pytest.mark.parametrize("name", BALANCERS)
def test_a_retry_goes_elsewhere_and_who_is_not_usable_gets_nothing(name):
    roster = roster_of(dict.fromkeys("abcd", 1.0))
    roster.set_usable(roster.members["b"], usable=False)
    assert set(picks(name, roster, 200, skip=[roster.members["a"]])) == {"c", "d"}
    roster.set_usable(roster.members["b"], usable=True)
    roster.leave("c")
    assert set(picks(name, roster, 200)) >= {"a", "b", "d"}
    assert "c" not in picks(name, roster, 200)


def test_an_unknown_balancer_is_refused_by_name():
    with pytest.raises(ValueError, match=r"least_cost.*got 'fastest'"):
        balancer("fastest")


def test_round_robin_goes_round():
    assert Counter(picks("round_robin", roster_of(dict.fromkeys("abc", 1.0)), 300)) == dict.fromkeys(
        "abc", 100
    )
    assert picks("round_robin", roster_of(dict.fromkeys("abc", 1.0)), 4, Zero()) == ["a", "b", "c", "a"]


def test_smooth_weighted_round_robin_spreads_the_heavy_one():
    roster = roster_of({"a": 5, "b": 1, "c": 1})
    assert "".join(picks("weighted_round_robin", roster, 14, Zero())) == "aabacaaaabacaa"
    assert Counter(picks("weighted_round_robin", roster, 7000)) == {"a": 5000, "b": 1000, "c": 1000}


@pytest.mark.parametrize("name", ["least_connections", "p2c"])
def test_the_one_with_less_under_way_for_its_weight_is_chosen(name):
    roster = roster_of({"a": 1, "b": 3})
    for key in "aab":
        roster.begin(roster.members[key], 0.0)
    assert set(picks(name, roster, 50)) == {"b"}
    roster.begin(roster.members["b"], 0.0)
    assert set(picks(name, roster, 50)) == {"b"}  # 2 for a weight of 3 against 2 for one of 1


@pytest.mark.parametrize(
    ("latencies", "in_flight", "chosen"),
    [
        ({"a": 0.01, "b": 0.02}, {}, "a"),
        ({"a": 0.01, "b": 0.025}, {"a": 1}, "a"),
        ({"a": 0.01, "b": 0.025}, {"a": 2}, "b"),
        ({"a": 0.01, "b": 0.1, "c": 0.1}, {"a": 8}, "a"),
    ],
)
def test_least_cost_is_latency_times_what_is_under_way_and_one(latencies, in_flight, chosen):
    roster = known(latencies)
    for key, number in in_flight.items():
        for _ in range(number):
            roster.begin(roster.members[key], 0.0)
    assert set(picks("least_cost", roster, 20)) == {chosen}


def test_least_cost_is_divided_by_the_weight():
    roster = taught(roster_of({"a": 1.0, "b": 4.0}), {"a": 0.01, "b": 0.03})
    assert set(picks("least_cost", roster, 20)) == {"b"}


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


def test_who_comes_back_from_an_ejection_starts_slowly():
    roster = known({"a": 0.01, "b": 0.01})
    member = roster.members["b"]
    roster.set_usable(member, usable=False)
    roster.set_usable(member, usable=True)
    assert roster.share(member, 100.0) == 1.0
    roster.start_slowly(member, 100.0)
    assert roster.share(member, 105.0) == 0.5
    assert roster.share(roster.members["a"], 105.0) == 1.0


def test_the_calls_of_an_idle_service_go_to_all_of_its_instances():
    """Though one of them always has the least cost: nobody answers equally fast twice."""
    roster, rng, chosen = roster_of(dict.fromkeys(range(5), 1.0)), Random(2), Counter()
    for second in range(2000):
        member = pick(balancer(), roster, float(second), rng)
        chosen[member.key] += 1
        answer(roster, member.key, float(second), rng.expovariate(100))
    assert min(chosen.values()) > 300
    assert max(chosen.values()) < 500


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


def test_a_newcomer_keeps_a_part_of_its_picks_that_rises_over_ten_seconds():
    for age, part in ((0.0, 0.1), (5.0, 0.5), (10.0, 1.0)):
        roster = known({"a": 0.5})
        roster.join("b", 100.0).cost = 1e-9
        roster._changed(roster.members["b"])
        chosen = Counter(picks("least_cost", roster, 4000, now=100.0 + age))
        assert chosen["b"] / 4000 == pytest.approx(part, abs=0.03)


def test_instances_that_join_together_are_no_newcomers_to_each_other():
    roster = roster_of(dict.fromkeys("ab", 1.0), now=50.0)
    roster.join("c", 50.1)
    chosen = Counter(picks("random", roster, 6000, now=51.0))
    assert chosen["c"] / 6000 == pytest.approx(1 / 3 * 0.9 + 1 / 9 * 0.1, abs=0.05)
    alone = roster_of({"a": 1.0}, now=50.0)
    assert picks("least_cost", alone, 1, now=50.0) == ["a"]


def test_a_newcomer_gets_everything_if_nobody_else_is_usable():
    roster = known({"a": 0.01})
    roster.join("b", 100.0)
    roster.set_usable(roster.members["a"], usable=False)
    assert set(picks("least_cost", roster, 50, now=100.0)) == {"b"}


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


def test_a_fast_failing_instance_gets_at_most_one_percent_after_warm_up():
    load = Load(balancer(), {n: steady(0.01) for n in range(4)} | {"bad": failing(0.0005)}, Random(3), 200)
    load.run(40)
    assert load.shares(10, 40)["bad"] <= 0.01


def test_latencies_are_means_of_all_answers_whatever_their_order():
    roster = roster_of({"a": 1.0})
    for n in range(1, 2000):
        answer(roster, "a", n / 1000, 0.03 if n % 2 else 0.01)
    assert roster.latency(roster.members["a"], 1.999) == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_a_cold_join_gets_at_most_one_and_a_half_of_its_fair_share(seed):
    load = Load(balancer(), {n: steady(0.01) for n in range(9)}, Random(seed), 1000)
    load.run(20)
    load.join("new", steady(0.01))
    load.run(20)
    seconds = [load.shares(second, second + 1)["new"] for second in range(20, 40)]
    assert max(seconds) <= 1.5 * 0.1
    assert seconds[0] < 0.07
    assert load.shares(32, 40)["new"] > 0.05


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
