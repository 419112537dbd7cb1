"""Lanes: slots for attempts. Pure state, so the rules are checked against random histories."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from econeura_daemon.webhooks.lanes import REMEMBERED, Lanes, Standing


def opened(most: int, *good: str) -> Lanes:
    """Return open lanes; those of ``good`` have proved themselves, and allow ten."""
    lanes = Lanes(most)
    lanes.open()
    for key in good:
        assert lanes.take(key, 10, 0)
        lanes.succeeded(key)
        lanes.give(key)
    return lanes


def test_nothing_is_given_out_before_the_lanes_are_opened_and_after_they_are_closed():
    lanes = Lanes(10)
    assert not lanes.take("a", 5, 0)
    lanes.open()
    assert lanes.take("a", 5, 0)
    lanes.close()
    assert not lanes.take("a", 5, 0)


def test_a_lane_has_no_more_slots_than_its_own_limit():
    lanes = opened(10, "a", "b")
    assert [lanes.take("a", 2, 0) for _ in range(3)] == [True, True, False]
    assert lanes.take("b", 2, 0)


def test_all_lanes_together_have_no_more_slots_than_the_limit_over_all():
    lanes = opened(16, "a", "b", "c")
    for key in "abc":
        lanes.waits(key, 0, 10)
        lanes.waits(f"fresh-{key}", 0, 10)
        lanes.waits(f"dead-{key}", 0, 10, Standing.FAILING)
    taken = []
    while granted := lanes.take_due(0, 100):
        taken += granted.values()
        for key in granted:
            lanes.claimed(key, 0, 0)
    assert sum(taken) == 16


def test_good_lanes_leave_an_eighth_to_those_that_are_not_known_yet():
    lanes = opened(16, *"abcdefghijklmnop")
    assert sum(lanes.take(key, 10, 0) for key in "abcdefghijklmnop" * 2) == 14
    assert [lanes.take("fresh", 10, 0) for _ in range(3)] == [True, True, False]


def test_the_last_quarter_of_the_good_lanes_is_for_those_with_nothing_under_way():
    lanes = opened(16, "slow", "quick")
    assert sum(lanes.take("slow", 16, 0) for _ in range(16)) == 11
    assert [lanes.take("quick", 16, 0) for _ in range(2)] == [True, False]


def test_of_waiting_lanes_the_one_with_the_fewest_under_way_comes_first():
    lanes = opened(64, "busy", "idle")
    for _ in range(3):
        assert lanes.take("busy", 10, 0)
    lanes.waits("busy", 1, 10)
    lanes.waits("idle", 9, 10)
    assert list(lanes.take_due(10, 1)) == ["idle"]


def test_a_fresh_lane_may_use_its_limit_while_there_is_room():
    lanes = opened(40)
    assert [lanes.take("a", 4, 0) for _ in range(5)] == [True] * 4 + [False]


def test_when_fresh_lanes_are_many_each_has_one_slot():
    lanes = opened(16)
    for n in range(20):
        lanes.waits(f"fresh{n}", n, 10)
    taken = lanes.take_due(20, 100)
    assert sum(taken.values()) == 8
    assert sorted(taken.values()) == [1, 1, 1, 1, 4]


def test_a_birth_does_not_overtake_what_is_due_in_its_lane():
    lanes = opened(16, "a", "b")
    lanes.waits("a", 5, 10)
    assert not lanes.take("a", 10, 5)
    assert lanes.take("b", 10, 5)
    assert lanes.take_due(5, 1) == {"a": 1}
    lanes.claimed("a", None, 0)
    assert lanes.take("a", 10, 5)


def test_a_retry_in_the_far_future_does_not_keep_births_waiting():
    lanes = opened(16, "a")
    lanes.waits("a", 3_600_000, 10)
    assert lanes.take("a", 10, 5)
    assert lanes.next_due() == 3_600_000


def test_a_lane_is_not_claimed_twice_at_once():
    lanes = opened(64, "a")
    lanes.waits("a", 0, 10)
    assert lanes.take_due(0, 2) == {"a": 2}
    assert lanes.take_due(0, 2) == {}
    lanes.claimed("a", 0, 1)
    assert lanes.take_due(0, 2) == {"a": 2}


def test_what_is_not_due_yet_is_not_taken_and_tells_when_it_will_be():
    lanes = opened(64, "a")
    lanes.waits("a", 100, 10)
    assert lanes.take_due(99, 10) == {}
    assert lanes.next_due() == 100
    assert lanes.take_due(100, 10) == {"a": 10}


def test_of_equal_lanes_the_one_that_is_due_longest_comes_first():
    lanes = opened(64, "late", "early")
    lanes.waits("late", 20, 5)
    lanes.waits("early", 10, 5)
    assert list(lanes.take_due(30, 1)) == ["early"]


def test_a_claim_that_failed_gives_its_slots_back_and_the_lane_is_due_again():
    lanes = opened(64, "a")
    lanes.waits("a", 5, 4)
    assert lanes.take_due(5, 10) == {"a": 4}
    lanes.claim_failed("a", 4)
    assert lanes.take_due(5, 10) == {"a": 4}


def test_a_lane_without_room_is_due_as_soon_as_a_slot_is_free():
    lanes = opened(10, "a")
    assert lanes.take("a", 1, 0)
    lanes.waits("a", 5, 1)
    assert lanes.next_due() is None
    lanes.give("a")
    assert lanes.next_due() == 5


def test_an_overloaded_receiver_halves_its_lane_and_each_success_widens_it_by_one():
    lanes = opened(100, "a")
    assert lanes.take("a", 8, 0)
    lanes.failed("a", overloaded=True)
    lanes.failed("a", overloaded=True)
    assert [lanes.take("a", 8, 0) for _ in range(2)] == [True, False]
    lanes.succeeded("a")
    assert [lanes.take("a", 8, 0) for _ in range(2)] == [True, False]


def test_halving_stops_at_one():
    lanes = opened(100, "a")
    assert lanes.take("a", 4, 0)
    for _ in range(10):
        lanes.failed("a", overloaded=True)
    lanes.give("a")
    assert [lanes.take("a", 4, 0) for _ in range(2)] == [True, False]


def test_failing_lanes_share_a_quarter_of_the_slots_however_many_they_are():
    lanes = opened(16, "alive")
    for n in range(20):
        lanes.waits(f"dead{n}", 0, 4, Standing.FAILING)
    assert sum(lanes.take_due(0, 100).values()) == 4
    assert lanes.next_due() is None
    assert lanes.take("alive", 20, 0)


def test_fresh_and_failing_lanes_share_half_of_the_slots():
    lanes = opened(16, "alive")
    for n in range(20):
        lanes.waits(f"dead{n}", 0, 4, Standing.FAILING)
        lanes.waits(f"fresh{n}", 0, 4)
    taken = lanes.take_due(0, 100)
    assert sum(taken.values()) == 8
    assert sum(slots for key, slots in taken.items() if key.startswith("dead")) <= 4
    assert [lanes.take("alive", 20, 0) for _ in range(9)] == [True] * 8 + [False]


def test_fresh_lanes_are_served_before_failing_ones_that_are_due_longer():
    lanes = opened(8)
    for n in range(4):
        lanes.waits(f"dead{n}", 0, 4, Standing.FAILING)
        lanes.waits(f"fresh{n}", 9, 1)
    assert sorted(lanes.take_due(9, 4)) == ["fresh0", "fresh1", "fresh2", "fresh3"]


def test_a_failing_lane_that_comes_back_leaves_its_share_to_others():
    lanes = opened(4)
    lanes.waits("a", 0, 4, Standing.FAILING)
    lanes.waits("b", 0, 4, Standing.FAILING)
    (first,) = lanes.take_due(0, 10)
    lanes.claimed(first, None, 0)
    assert lanes.take_due(0, 10) == {}
    lanes.succeeded(first)
    (second,) = lanes.take_due(0, 10)
    assert {first, second} == {"a", "b"}


def test_lowering_the_limit_over_all_waits_for_slots_to_come_back():
    lanes = opened(16, "a", "b")
    assert sum(lanes.take("a", 10, 0) for _ in range(10)) == 10
    lanes.resize(4)
    for _ in range(7):
        lanes.give("a")
    assert not lanes.take("a", 10, 0)
    assert lanes.take("b", 10, 0)


def test_lanes_without_work_are_remembered_up_to_a_bound():
    lanes = opened(4)
    for n in range(REMEMBERED + 50):
        assert lanes.take(f"{n}", 4, 0)
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
        if self.lanes.take(key, self.limits[key], self.now):
            self.in_flight[key] += 1
            return key
        return multiple()

    @rule(key=consumes(taken))
    def give(self, key):
        self.lanes.give(key)
        self.in_flight[key] -= 1

    @rule(key=keys, at=st.integers(0, 50))
    def wait_too(self, key, at):
        self.lanes.waits(key, at, self.limits[key])

    @rule(key=keys)
    def succeed(self, key):
        self.lanes.succeeded(key)

    @rule(key=keys, overloaded=st.booleans())
    def fail(self, key, overloaded):
        self.lanes.failed(key, overloaded=overloaded)

    @rule(target=taken, by=st.integers(0, 20), most=st.integers(1, 10), how=st.integers(0, 3))
    def claim(self, by, most, how):
        self.now += by
        granted = self.lanes.take_due(self.now, most)
        assert sum(granted.values()) <= most
        if sum(granted.values()) < most:  # the loop would sleep now: nothing that could go may be due
            due = self.lanes.next_due()
            assert due is None or due > self.now
        begun = []
        for key, slots in granted.items():
            if how == 0:
                self.lanes.claim_failed(key, slots)
                continue
            due_at = None if how == 1 else self.now if how == 2 else self.now + 10
            used = slots if how == 2 else slots - 1
            self.lanes.claimed(key, due_at, slots - used)
            self.in_flight[key] += used
            begun += [key] * used
        return multiple(*begun)

    @invariant()
    def limits_hold(self):
        assert sum(self.in_flight.values()) <= self.most
        for key, limit in self.limits.items():
            assert 0 <= self.in_flight[key] <= limit
        statistics = self.lanes.statistics()
        assert statistics.in_flight == sum(self.in_flight.values())


TestLanes = LanesMachine.TestCase
