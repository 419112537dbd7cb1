"""The instances that a service's calls are balanced over, and what each of them costs.

The cost of an instance is ``latency * (in flight + 1) / weight``, the latency being a mean of its answers in which
older ones weigh less. It fades while nothing is heard, so that an instance which was slow once is tried again
(as in Finagle's ``PeakEwma``). Every latency fades at the same pace. So the *order* of two
costs does not change with time, only with what happens, and each is kept as it would have been at one common
landmark (forward decay, Cormode et al. 2009). Nothing has to be computed anew when an instance is picked:
costs stand in a list, and the smallest is found by ``min``.

What keeps the fading from doing harm:

- An instance that hangs brings no samples. Its latency does not fade while calls to it are under way.
- One that nobody called for a while would look free, and draw a whole burst. It is taken for as good as the
  median of its peers, until its answers say what it is.
- A newcomer, of which nothing is known, is taken for as good as the median too; the share of the picks that it
  keeps rises over `SLOW_START` seconds (`balancers.pick`).
"""

from collections.abc import Hashable, Iterator
from math import exp
from statistics import median

import attrs

from econeura_daemon.resilience.slow_start import share

FADE = 10.0
"""Seconds in which a latency fades to 1/e; Finagle's and Linkerd's ``decayTime`` of 10 s."""
PENALTY = 1.0
"""Seconds that a failure adds to an instance's latency; they fade with it."""
SLOW_START = 10.0
"""Seconds over which a newcomer comes to its full share."""
UNKNOWN = 0.001
"""Seconds: the latency of an instance while nothing is known of any. It must not be 0, or calls would not add up."""
HOLD = 1.0
"""Seconds without an answer after which the latency of an instance with calls under way is kept from fading."""
_LEAST = 1e-6
"""Seconds: a median that has faded below it is no longer one."""
_MOST = 600.0
"""Fading times beyond which everything has faded equally; a float holds e to the power of 709."""
_REBASE = 50.0
"""Fading times after which the landmark moves on, so that costs stay far from what a float can hold."""


@attrs.define(eq=False)
class Member:
    """One instance, as its callers see it."""

    key: Hashable
    weight: float
    joined_at: float
    in_flight: int = 0
    cost: float = UNKNOWN
    """The latency in seconds, as of the roster's landmark."""
    at: float = 0.0
    """The instant from which the latency has faded."""
    answers: float = 0.0
    """How many made up its latency, those of long ago counted less; 0: it is a guess."""
    place: int = -1
    """Where it stands among the usable ones; -1: it is not usable."""


class Roster:
    """The members, their loads and their costs. ``now`` is in seconds of a monotonic clock."""

    __slots__ = (
        "_fade", "_landmark", "_penalty", "costs", "loads", "members", "oldest", "slow_start", "usable",
    )  # fmt: skip

    def __init__(
        self, *, fade: float = FADE, penalty: float = PENALTY, slow_start: float = SLOW_START
    ) -> None:
        if not (fade > 0 and penalty >= 0 and slow_start >= 0):
            raise ValueError(
                f"expected fade > 0, penalty >= 0 and slow_start >= 0, got {fade}, {penalty} and {slow_start}"
            )
        self._fade = fade
        self._penalty = penalty
        self.slow_start = slow_start
        """Seconds over which a newcomer comes to its full share."""
        self.members: dict[Hashable, Member] = {}
        self.usable: list[Member] = []
        self.loads: list[float] = []
        """(in flight + 1) / weight, of each usable member."""
        self.costs: list[float] = []
        """The cost of each usable member."""
        self.oldest = 0.0
        """When the first of the members joined."""
        self._landmark: float | None = None

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members.values())

    def join(self, key: Hashable, now: float, weight: float = 1.0) -> Member:
        """Add an instance, usable at once, with a slow start if others were there before."""
        if key in self.members:
            raise ValueError(f"{key!r} is a member already")
        _check_weight(weight)
        if self._landmark is None:
            self._landmark = now
        member = Member(key, weight, now, at=now)
        self.oldest = min(self.oldest, now) if self.members else now
        self.members[key] = member
        self._review(member, now)
        self.set_usable(member, usable=True)
        return member

    def leave(self, key: Hashable) -> None:
        """Remove an instance; what still is under way to it may end as it likes."""
        member = self.members.pop(key)
        self.set_usable(member, usable=False)
        self.oldest = min((other.joined_at for other in self), default=0.0)

    def set_usable(self, member: Member, *, usable: bool) -> None:
        """Let the member be picked, or pass over it: it is ejected, draining, or its breaker is open."""
        place = member.place
        if usable == (place >= 0):
            return
        if usable:
            member.place = len(self.usable)
            load = (member.in_flight + 1) / member.weight
            self.usable.append(member)
            self.loads.append(load)
            self.costs.append(member.cost * load)
            return
        member.place = -1
        last, load, cost = self.usable.pop(), self.loads.pop(), self.costs.pop()
        if last is not member:
            last.place = place
            self.usable[place], self.loads[place], self.costs[place] = last, load, cost

    def weigh(self, member: Member, weight: float) -> None:
        """Give the member another weight."""
        _check_weight(weight)
        member.weight = weight
        self._changed(member)

    def start_slowly(self, member: Member, now: float) -> None:
        """Let a member that comes back after an ejection come to its share as slowly as a newcomer."""
        member.joined_at = now
        self.oldest = min(other.joined_at for other in self)

    def share(self, member: Member, now: float) -> float:
        """Return the part of its picks that a member keeps: less than 1 while it is new among older ones."""
        return share(now - member.joined_at, min(self.slow_start, now - self.oldest))

    def begin(self, member: Member, now: float) -> None:
        """A call to the member begins."""
        unheard = now - member.at
        if member.in_flight == 0:
            if unheard > self._fade:
                self._review(member, now)
                member.at = now
        elif unheard > HOLD:
            self._scale(now)  # the landmark first, or years of silence would overflow
            member.cost *= exp(min(unheard / self._fade, _MOST))
            member.at = now
        member.in_flight += 1
        self._changed(member)

    def end(self, member: Member, now: float, latency: float | None = None, *, failed: bool = False) -> None:
        """A call to the member ended after ``latency`` seconds; None: it was cancelled and says nothing."""
        member.in_flight -= 1
        if latency is not None:
            self._learn(member, now, latency, failed=failed)
        self._changed(member)

    def latency(self, member: Member, now: float) -> float:
        """Return what the member is taken to need for a call now, in seconds, penalties included."""
        return member.cost / self._scale(now)

    def _learn(self, member: Member, now: float, latency: float, *, failed: bool) -> None:
        scale = self._scale(now)
        if member.answers == 0 and not any(other.answers for other in self):
            self._seed(latency * scale)
        kept = exp(-min(max(0.0, now - member.at) / self._fade, _MOST))
        # A mean of all answers in which the weight of each fades with time. Weighing them by the time since
        # the one before, as moving averages do, would count long calls twice: they come after long gaps.
        member.answers = max(member.answers, 1.0) * kept + 1.0  # the guess is worth one
        part = 1.0 / member.answers
        cost = member.cost * (1.0 - part) / kept + latency * scale * part
        if failed:  # a quick failure is no quick answer
            cost = max(cost, member.cost) + self._penalty * scale
        member.cost = cost
        member.at = now

    def _seed(self, cost: float) -> None:
        """The first answer of all: those that have not answered are taken for as good."""
        for other in self:
            other.cost = cost
            self._changed(other)

    def _review(self, member: Member, now: float) -> None:
        """Nothing is known of the member any more: it is as good as the median of its peers, or worse."""
        scale = self._scale(now)
        known = [other.cost for other in self if other.answers and other is not member]
        floor = median(known) if known else 0.0
        if floor < _LEAST * scale:
            floor = UNKNOWN * scale
        member.cost = max(member.cost, floor) if member.answers else floor
        member.answers = 0.0

    def _changed(self, member: Member) -> None:
        place = member.place
        if place >= 0:
            load = (member.in_flight + 1) / member.weight
            self.loads[place] = load
            self.costs[place] = member.cost * load

    def _scale(self, now: float) -> float:
        """Return what a latency measured now is multiplied by, to be as of the landmark."""
        assert self._landmark is not None
        faded = (now - self._landmark) / self._fade
        if faded > _REBASE:
            self._landmark = now
            ratio = exp(-min(faded, _MOST))
            for member in self:
                member.cost *= ratio
                self._changed(member)
            return 1.0
        return exp(faded)


def _check_weight(weight: float) -> None:
    if not weight > 0:
        raise ValueError(f"expected a weight > 0, got {weight}")
