"""The breaker beside a naive model, over random histories."""

from math import inf
from random import Random

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from econeura_daemon.resilience.breaker import Breaker, State
from econeura_daemon.resilience.breaker_policy import BreakerPolicy
from econeura_daemon.resilience.outcomes import Verdict

STEADY = BreakerPolicy(jitter=0.0, ramp=0.0)
OK, FAIL, BUSY, NOTHING = Verdict.SUCCESS, Verdict.FAILURE, Verdict.RATE_ONLY, Verdict.NEUTRAL


class BreakerModel(RuleBasedStateMachine):
    """The naive model keeps every call that ever ended, and computes everything anew each time."""

    def __init__(self):
        super().__init__()
        self.policy = attrs.evolve(STEADY, min_calls=6, failures_in_a_row=3)
        self.breaker = Breaker(self.policy)
        self.rng = Random(1)
        self.now = 0.0
        self.state, self.since, self.openings, self.generation = State.CLOSED, -inf, 0, 0
        self.ended = []  # (second, verdict) while closed
        self.under_way = []  # (generation, began)
        self.successes = 0
        self.hung = 0.0  # seconds with a trial under way, and no verdict

    def enter(self, state, at):
        self.state, self.since = state, at
        self.generation += 1
        self.ended, self.successes, self.hung = [], 0, 0.0

    def open(self, at):
        self.enter(State.OPEN, at)
        self.openings += 1

    def open_until(self):
        return self.since + min(60 * 2 ** (self.openings - 1), 600)

    def trials(self):
        return [began for generation, began in self.under_way if generation == self.generation]

    @rule(seconds=st.integers(0, 80).map(lambda eighths: eighths / 8))
    def time_passes(self, seconds):
        for _ in range(int(seconds * 8)):
            self.now += 0.125
            if self.state is State.OPEN and self.now >= self.open_until():
                self.enter(State.HALF_OPEN, self.open_until())
            elif self.state is State.HALF_OPEN and self.trials():
                self.hung += 0.125
                if self.hung >= 30:
                    self.open(self.now)
        self.breaker.turn(self.now, self.rng)

    @rule()
    def much_time_passes(self):
        self.time_passes(61.0)

    @rule()
    def call_begins(self):
        admitted = self.breaker.admit(self.now, self.rng)
        free = self.state is State.CLOSED or (
            self.state is State.HALF_OPEN and len(self.trials()) + self.successes < 3
        )
        assert isinstance(admitted, int) == free
        if free:
            assert admitted == self.generation
            self.under_way.append((admitted, self.now))

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 10**6), verdict=st.sampled_from([OK, FAIL, FAIL, BUSY, NOTHING]))
    def call_ends(self, which, verdict):
        generation, _ = self.under_way.pop(which % len(self.under_way))
        self.breaker.record(generation, verdict, self.now, self.rng)
        if generation != self.generation:
            return
        if self.state is State.CLOSED:
            self.ended.append((self.now, verdict))
            recent = [v for at, v in self.ended if int(at) > int(self.now) - 10 and v is not NOTHING]
            row = 0
            for _, each in self.ended:
                row = row + 1 if each is FAIL else 0 if each is OK else row
            failed = sum(v is not OK for v in recent)
            by_rate = verdict in (FAIL, BUSY) and len(recent) >= 6 and failed * 2 >= len(recent)
            if by_rate or (row >= 3 and verdict is FAIL):
                self.open(self.now)
        elif verdict is FAIL:
            self.open(self.now)
        elif verdict is OK:
            self.successes, self.hung = self.successes + 1, 0.0
            if self.successes == 3:
                self.enter(State.CLOSED, self.now)
                self.openings = 0

    @invariant()
    def they_agree(self):
        phase = self.breaker.phase
        self.breaker.turn(self.now, self.rng)
        assert (phase.state, phase.since, phase.generation) == (self.state, self.since, self.generation)
        assert self.breaker.trials == (len(self.trials()) if self.state is State.HALF_OPEN else 0)
        assert self.breaker.successes == self.successes
        if self.state is State.OPEN:
            assert phase.until == self.open_until()


TestBreakerBesideTheModel = BreakerModel.TestCase
