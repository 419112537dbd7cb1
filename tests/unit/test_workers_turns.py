"""Whose turn it is: proportions, no starving, organizations one after the other."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from econeura_daemon.workers.model import Priority
from econeura_daemon.workers.turns import WEIGHTS, Turns


def keep_full(turns, count, organizations=("a",)):
    """Return who goes, while so many of each priority and organization wait all the time."""
    for priority in Priority:
        for organization in organizations:
            for _ in range(3):
                turns.add(priority, organization, (priority, organization))
    gone = []
    for _ in range(count):
        priority, organization = turns.next()
        gone.append((priority, organization))
        turns.add(priority, organization, (priority, organization))
    return gone


def test_turns_go_by_weight_and_are_spread():
    gone = [priority for priority, _ in keep_full(Turns(), 150)]
    assert Counter(gone) == {priority: 10 * weight for priority, weight in WEIGHTS.items()}
    places = [place for place, priority in enumerate(gone) if priority is Priority.LOW]
    assert {after - before for before, after in pairwise(places)} == {15}, (
        "the low ones wait for no burst's end"
    )


def test_organizations_of_a_priority_go_round_however_many_each_has():
    turns = Turns()
    for n in range(1000):
        turns.add(Priority.NORMAL, "flood", f"f{n}")
    turns.add(Priority.NORMAL, "small", "s0")
    turns.add(Priority.NORMAL, "small", "s1")
    assert [turns.next() for _ in range(5)] == ["f0", "s0", "f1", "s1", "f2"]
    assert len(turns) == 997


def test_an_organization_that_comes_back_stands_behind_those_that_wait():
    turns = Turns()
    for who in ("a", "b", "c"):
        turns.add(Priority.HIGH, who, who)
    assert turns.next() == "a"
    turns.add(Priority.HIGH, "a", "a again")
    assert [turns.next() for _ in range(3)] == ["b", "c", "a again"]


def test_nobody_saves_turns_up_while_he_does_not_wait():
    turns = Turns()
    for n in range(100):
        turns.add(Priority.URGENT, "a", n)
    for _ in range(50):
        turns.next()
    for n in range(100):
        turns.add(Priority.LOW, "a", n)
    gone = [turns.next() for _ in range(9)]
    assert len(gone) == 9
    assert turns.count(Priority.LOW) == 99


def test_who_leaves_is_not_called_and_others_keep_their_places():
    turns = Turns()
    for who in ("a", "b", "c"):
        turns.add(Priority.LOW, "o", who)
    turns.remove(Priority.LOW, "o", "b")
    assert [turns.next(), turns.next()] == ["a", "c"]
    with pytest.raises(IndexError):
        turns.next()
    with pytest.raises(ValueError, match="does not wait"):
        turns.remove(Priority.LOW, "o", "a")


def test_the_last_of_the_longest_queue_gives_way_to_a_newcomer_whose_own_is_shorter():
    turns = Turns()
    for n in range(10):
        turns.add(Priority.NORMAL, "flood", f"f{n}")
    assert turns.give_way(Priority.NORMAL, "flood") is None
    assert turns.give_way(Priority.LOW, "small") == "f9"
    turns.add(Priority.LOW, "small", "s0")
    assert turns.give_way(Priority.URGENT, "flood") == "f8", "its own urgent ones are a queue of their own"
    assert len(turns) == 9
    assert {turns.next() for _ in range(9)} == {*(f"f{n}" for n in range(8)), "s0"}


def test_a_queue_is_as_long_as_the_turns_that_it_takes():
    turns = Turns()
    for n in range(8):
        turns.add(Priority.URGENT, "a", f"u{n}")
    for n in range(2):
        turns.add(Priority.LOW, "b", f"l{n}")
    assert turns.give_way(Priority.NORMAL, "c") == "l1", "eight urgent ones take as long as one low one"
    assert turns.give_way(Priority.NORMAL, "c") == "u7", "the first of a queue never gives way"


def test_who_is_the_only_one_of_his_queue_gives_way_to_nobody():
    turns = Turns()
    turns.add(Priority.LOW, "a", "only")
    assert turns.give_way(Priority.URGENT, "b") is None
    assert turns.next() == "only"


def test_the_less_urgent_get_their_turns_however_many_urgent_newcomers_find_all_places_taken():
    turns, gone = Turns(), []
    turns.add(Priority.LOW, "patient", "low")
    for n in range(1000):
        if len(turns) < 10 or turns.give_way(Priority.URGENT, f"o{n}") is not None:
            turns.add(Priority.URGENT, f"o{n}", n)
        if n % 3 == 0:
            gone.append(turns.next())
    assert "low" in gone[:15]


def test_whatever_comes_and_goes_everyone_gets_one_turn():
    rng = Random(3)
    turns, waiting, gone = Turns(), {}, []
    for number in range(5000):
        if rng.random() < 0.55:
            at = (rng.choice(list(Priority)), rng.choice("abcd"))
            if len(turns) >= 40:
                crowded_out = turns.give_way(*at)
                if crowded_out is None:
                    continue
                del waiting[crowded_out]
            waiting[number] = at
            turns.add(*at, number)
        elif waiting and rng.random() < 0.2:
            who = rng.choice(list(waiting))
            turns.remove(*waiting.pop(who), who)
        elif waiting:
            who = turns.next()
            gone.append(who)
            del waiting[who]
        assert len(turns) == len(waiting)
    assert len(gone) == len(set(gone))
