"""A service under load, simulated: arrivals, instances that take some time, one balancer. Nothing waits."""

import heapq
from collections import Counter
from itertools import count

from econeura_daemon.resilience import Roster, pick


class Load:
    """Calls come in by chance at ``rate`` a second; each ends after what its instance's function says.

    ``instances``: by key, a function that takes the calls under way there and a `Random` and returns the seconds
    that the call takes and whether it fails.
    """

    def __init__(self, balancer, instances, rng, rate):
        self.balancer, self.instances, self.rng, self.rate = balancer, dict(instances), rng, rate
        self.roster, self.now = Roster(), 0.0
        self.picks = []
        """(when, key) of each call."""
        self._ends, self._order = [], count()
        for key in self.instances:
            self.roster.join(key, 0.0)

    def join(self, key, behaviour):
        self.instances[key] = behaviour
        self.roster.join(key, self.now)

    def run(self, seconds):
        """Let the load go on for so long."""
        until = self.now + seconds
        while (arrival := self.now + self.rng.expovariate(self.rate)) < until:
            self._end_before(arrival)
            self.now = arrival
            member = pick(self.balancer, self.roster, arrival, self.rng)
            lasts, failed = self.instances[member.key](member.in_flight, self.rng)
            self.roster.begin(member, arrival)
            self.picks.append((arrival, member.key))
            heapq.heappush(self._ends, (arrival + lasts, next(self._order), member, lasts, failed))
        self._end_before(until)
        self.now = until

    def shares(self, since, until):
        """Return each instance's part of the calls between two instants."""
        counts = Counter(key for at, key in self.picks if since <= at < until)
        total = sum(counts.values())
        return {key: counts[key] / total for key in self.instances}

    def _end_before(self, instant):
        while self._ends and self._ends[0][0] <= instant:
            at, _, member, lasts, failed = heapq.heappop(self._ends)
            self.roster.end(member, at, lasts, failed=failed)


def steady(seconds):
    """Return an instance that takes ``seconds`` on average, exponentially distributed."""

    def behaviour(_in_flight, rng):
        return rng.expovariate(1 / seconds), False

    return behaviour


def failing(seconds):
    """Return an instance that refuses everything after ``seconds``."""
    return lambda _in_flight, _rng: (seconds, True)
