"""A service under load, simulated: arrivals, instances with queues of their own, one balancer."""

import heapq
from collections import Counter, defaultdict, deque
from itertools import count
from statistics import fmean

from econeura_daemon.resilience import Roster, pick


class Load:
    """Calls come in by chance at ``rate`` a second; an instance works on ``at_once`` of them, the rest queue there.

    ``instances``: by key, a function of a `Random` that returns the seconds that a call takes, and whether it
    fails.
    """

    def __init__(self, balancer, instances, rng, rate, at_once=1000):
        self.balancer, self.instances, self.rng, self.rate = balancer, dict(instances), rng, rate
        self.at_once = at_once
        self.roster, self.now = Roster(), 0.0
        self.picks = []
        """(when, key) of each call."""
        self.latencies = []
        """(when it ended, seconds) of each call."""
        self._ends, self._order = [], count()
        self._busy, self._queues = Counter(), defaultdict(deque)
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
            self.roster.begin(member, arrival)
            self.picks.append((arrival, member.key))
            if self._busy[member.key] < self.at_once:
                self._start(member, arrival, arrival)
            else:
                self._queues[member.key].append(arrival)
        self._end_before(until)
        self.now = until

    def shares(self, since, until):
        """Return each instance's part of the calls between two instants."""
        counts = Counter(key for at, key in self.picks if since <= at < until)
        total = sum(counts.values())
        return {key: counts[key] / total for key in self.instances}

    def percentile(self, part, since):
        """Return the latency that this part of the calls did not exceed, of those that ended after ``since``."""
        found = sorted(seconds for at, seconds in self.latencies if at >= since)
        return found[int(len(found) * part)]

    def mean(self, since):
        """Return the mean latency of the calls that ended after ``since``."""
        return fmean(seconds for at, seconds in self.latencies if at >= since)

    def _start(self, member, now, arrival):
        self._busy[member.key] += 1
        lasts, failed = self.instances[member.key](self.rng)
        heapq.heappush(self._ends, (now + lasts, next(self._order), member, arrival, failed))

    def _end_before(self, instant):
        while self._ends and self._ends[0][0] <= instant:
            now, _, member, arrival, failed = heapq.heappop(self._ends)
            self.latencies.append((now, now - arrival))
            self.roster.end(member, now, now - arrival, failed=failed)
            self._busy[member.key] -= 1
            if queue := self._queues[member.key]:
                self._start(member, now, queue.popleft())


def steady(seconds):
    """Return an instance that takes ``seconds`` on average, exponentially distributed."""
    return lambda rng: (rng.expovariate(1 / seconds), False)


def failing(seconds):
    """Return an instance that refuses everything after ``seconds``."""
    return lambda _rng: (seconds, True)
