"""Lanes: slots for attempts. Pure state, so the rules are checked against random histories."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from econeura_daemon.webhooks.lanes import REMEMBERED, Lanes, Standing


def opened(most: int, *good: str) -> Lanes:
    """Return open lanes; those of ``good`` have proved themselves, and allow ten."""
    lanes = Lanes(most)
    lanes.open()
    for key in good:
        assert lanes.take(key, 10)
        lanes.succeeded(key)
        lanes.give(key)
    return lanes


def test_nothing_is_given_out_before_the_lanes_are_opened_and_after_they_are_closed():
    lanes = Lanes(10)
    assert not lanes.take("a", 5)
    lanes.open()
    assert lanes.take("a", 5)
    lanes.close()
    assert not lanes.take("a", 5)


def test_a_lane_has_no_more_slots_than_its_own_limit():
    lanes = opened(10, "a", "b")
    assert [lanes.take("a", 2) for _ in range(3)] == [True, True, False]
    assert lanes.take("b", 2)


def test_all_lanes_together_have_no_more_slots_than_the_limit_over_all():
    lanes = opened(3, "a", "b", "c")
    assert [lanes.take(key, 2) for key in "aabbc"] == [True, True, True, False, False]


def test_a_fresh_lane_may_use_its_limit_while_there_is_room():
    lanes = opened(40)
    assert [lanes.take("a", 4) for _ in range(5)] == [True] * 4 + [False]


def test_when_fresh_lanes_are_many_each_has_one_slot():
    lanes = opened(16)
    for n in range(20):
        lanes.waits_too(f"fresh{n}", n, 10)
    taken = lanes.take_due(20, 100)
    assert taken == {"fresh0": 4, "fresh1": 1, "fresh2": 1, "fresh3": 1, "fresh4": 1}


def test_a_birth_does_not_overtake_what_waits_in_its_lane():
    lanes = opened(10, "a", "b")
    lanes.waits_too("a", 5, 10)
    assert not lanes.take("a", 10)
    assert lanes.take("b", 10)
    assert lanes.take_due(5, 1) == {"a": 1}
    lanes.waits("a", None)
    assert lanes.take("a", 10)


def test_what_is_not_due_yet_is_not_taken_and_tells_when_it_will_be():
    lanes = opened(10, "a")
    lanes.waits_too("a", 100, 10)
    assert lanes.take_due(99, 10) == {}
    assert lanes.next_due() == 100
    assert lanes.take_due(100, 10) == {"a": 10}


def test_the_lane_that_is_due_longest_comes_first():
    lanes = opened(2, "late", "early")
    lanes.waits_too("late", 20, 5)
    lanes.waits_too("early", 10, 5)
    assert lanes.take_due(30, 10) == {"early": 2}


def test_a_claim_that_failed_gives_its_slots_back_and_the_lane_is_due_again():
    lanes = opened(10, "a")
    lanes.waits_too("a", 5, 4)
    assert lanes.take_due(5, 10) == {"a": 4}
    assert lanes.take_due(5, 10) == {}
    lanes.give("a", 4)
    assert lanes.take_due(5, 10) == {"a": 4}


def test_a_lane_without_room_is_due_as_soon_as_a_slot_is_free():
    lanes = opened(10, "a")
    assert lanes.take("a", 1)
    lanes.waits_too("a", 5, 1)
    assert lanes.next_due() is None
    lanes.give("a")
    assert lanes.next_due() == 5


def test_an_overloaded_receiver_halves_its_lane_and_each_success_widens_it_by_one():
    lanes = opened(100, "a")
    assert lanes.take("a", 8)
    lanes.failed("a", overloaded=True)
    lanes.failed("a", overloaded=True)
    assert [lanes.take("a", 8) for _ in range(2)] == [True, False]
    lanes.succeeded("a")
    assert [lanes.take("a", 8) for _ in range(2)] == [True, False]


def test_halving_stops_at_one():
    lanes = opened(100, "a")
    assert lanes.take("a", 4)
    for _ in range(10):
        lanes.failed("a", overloaded=True)
    lanes.give("a")
    assert [lanes.take("a", 4) for _ in range(2)] == [True, False]


def test_failing_lanes_share_a_quarter_of_the_slots_however_many_they_are():
    lanes = opened(16, "alive")
    for n in range(20):
        lanes.waits_too(f"dead{n}", 0, 4, Standing.FAILING)
    assert sum(lanes.take_due(0, 100).values()) == 4
    assert lanes.next_due() is None
    assert [lanes.take("alive", 20) for _ in range(13)] == [True] * 12 + [False]


def test_fresh_and_failing_lanes_share_half_of_the_slots():
    lanes = opened(16, "alive")
    for n in range(20):
        lanes.waits_too(f"dead{n}", 0, 4, Standing.FAILING)
        lanes.waits_too(f"fresh{n}", 0, 4)
    taken = lanes.take_due(0, 100)
    assert sum(taken.values()) == 8
    assert sum(slots for key, slots in taken.items() if key.startswith("dead")) <= 4
    assert [lanes.take("alive", 20) for _ in range(9)] == [True] * 8 + [False]


def test_fresh_lanes_are_served_before_failing_ones_that_are_due_longer():
    lanes = opened(8)
    for n in range(4):
        lanes.waits_too(f"dead{n}", 0, 4, Standing.FAILING)
        lanes.waits_too(f"fresh{n}", 9, 1)
    assert sorted(lanes.take_due(9, 4)) == ["fresh0", "fresh1", "fresh2", "fresh3"]


def test_a_failing_lane_that_comes_back_leaves_its_share_to_others():
    lanes = opened(4)
    lanes.waits_too("a", 0, 4, Standing.FAILING)
    lanes.waits_too("b", 0, 4, Standing.FAILING)
    assert lanes.take_due(0, 10) == {"a": 1}
    lanes.succeeded("a")
    assert lanes.take_due(0, 10) == {"a": 1, "b": 1}


def test_lowering_the_limit_over_all_waits_for_slots_to_come_back():
    lanes = opened(4, "a", "b")
    assert all(lanes.take("a", 4) for _ in range(4))
    lanes.resize(2)
    lanes.give("a", 2)
    assert not lanes.take("b", 4)
    lanes.give("a")
    assert lanes.take("b", 4)


def test_lanes_without_work_are_remembered_up_to_a_bound():
    lanes = opened(4)
    for n in range(REMEMBERED + 50):
        assert lanes.take(f"{n}", 4)
        lanes.succeeded(f"{n}")
        lanes.give(f"{n}")
    assert lanes.statistics().lanes == REMEMBERED


class LanesMachine(RuleBasedStateMachine):
    """Any history: the limits hold, no slot is lost, and what is due and may go does go."""

    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.most = 6
        self.limits = {"a": 1, "b": 3, "c": 10}
        self.lanes = opened(self.most)
        self.in_flight = dict.fromkeys(self.limits, 0)
        self.now = 0

    keys = st.sampled_from("abc")

    @rule(target=taken, key=keys)
    def born(self, key):
        if self.lanes.take(key, self.limits[key]):
            self.in_flight[key] += 1
            return key
        return multiple()

    @rule(key=consumes(taken))
    def give(self, key):
        self.lanes.give(key)
        self.in_flight[key] -= 1

    @rule(key=keys, at=st.integers(0, 50))
    def wait_too(self, key, at):
        self.lanes.waits_too(key, at, self.limits[key])

    @rule(key=keys)
    def nothing_waits(self, key):
        self.lanes.waits(key, None)

    @rule(key=keys)
    def succeed(self, key):
        self.lanes.succeeded(key)

    @rule(key=keys, overloaded=st.booleans())
    def fail(self, key, overloaded):
        self.lanes.failed(key, overloaded=overloaded)

    @rule(target=taken, by=st.integers(0, 20), most=st.integers(1, 10))
    def claim(self, by, most):
        self.now += by
        granted = self.lanes.take_due(self.now, most)
        for key, slots in granted.items():
            self.in_flight[key] += slots
        assert sum(granted.values()) <= most
        if sum(granted.values()) < most:  # the loop would sleep now: nothing that could go may be due
            due = self.lanes.next_due()
            assert due is None or due > self.now
        return multiple(*(key for key, slots in granted.items() for _ in range(slots)))

    @invariant()
    def limits_hold(self):
        assert sum(self.in_flight.values()) <= self.most
        for key, limit in self.limits.items():
            assert 0 <= self.in_flight[key] <= limit
        statistics = self.lanes.statistics()
        assert statistics.in_flight == sum(self.in_flight.values())


TestLanes = LanesMachine.TestCase
