"""Who gets the next call: order and ties, weights, newcomers."""

from collections import Counter
from random import Random

import pytest

from econeura_daemon.resilience.balancers import BALANCERS, balancer, pick
from econeura_daemon.resilience.roster import Roster
from tests.support.rosters import answer, known, picks, roster_of, taught

CHI_SQUARE_9 = 27.88
"""What chi-square with nine degrees of freedom exceeds once in a thousand times."""


class Zero(Random):
    """Dice that always show the least."""

    def random(self):
        return 0.0


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
    for keys in ("a", "ab", "abc"):
        roster = roster_of(dict.fromkeys(keys, 1.0))
        assert pick(chooser, roster, 0.0, rng, list(roster)) is None


@pytest.mark.parametrize("name", BALANCERS)
def test_the_only_one_that_is_not_skipped_is_found_wherever_it_stands(name):
    roster, chooser, rng = roster_of(dict.fromkeys(range(5), 1.0)), balancer(name), Random(1)
    for only in (3, 3, 0, 4, 1, 1, 2):
        skip = [member for member in roster if member.key != only]
        assert pick(chooser, roster, 0.0, rng, skip).key == only


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
