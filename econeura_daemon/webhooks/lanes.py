"""Who may have how many attempts under way: one lane a subscription, one limit over all.

Slots are taken in two places: by the writer's thread, when an event is committed and its delivery is born
claimed, and by the dispatcher's loop for what waits in the store. So this is the one piece of the dispatcher
that threads share; each method holds the lock for a few steps and never waits for anything else.

Isolation, so that dead and slow subscribers delay nobody else, however many they are:

- a lane has its own limit, halved by an overloaded or silent receiver and raised by one with each success
  (additive increase, multiplicative decrease, as TCP does);
- good lanes may have seven eighths of all slots; lanes that nobody has heard of yet and failing ones share half
  of them, the failing ones a quarter; good lanes are served first, failing ones last;
- of each share three quarters (of the smaller ones half) are for whoever comes; of the rest a lane has one slot;
- of the lanes that wait, the one with the fewest attempts under way comes first (max-min fairness), and of equal
  ones the one that waits longest.
"""

import enum
import threading

import attrs

from econeura_daemon.webhooks.turns import Timers, Turns

REMEMBERED = 100_000
"""Lanes that are kept although nothing is to be done for them, at some 250 bytes each. One that was forgotten
begins anew with what its subscription's record says, and among the lanes that nobody has heard of yet if the
record was read before its first delivery: they share half of the slots."""


class Standing(enum.IntEnum):
    """What is known of a receiver; also the order in which lanes are served."""

    GOOD = 0
    """Its last attempt succeeded."""
    FRESH = 1
    """Nothing came back from it yet."""
    FAILING = 2
    """Its last attempt failed."""


@attrs.define
class _Lane:
    limit: int
    allowed: int
    """The adaptive limit: at least 1, at most ``limit``."""
    standing: Standing
    in_flight: int = 0
    due_at: int | None = None
    """When the first of what waits in the store is due, in milliseconds; None: nothing waits."""
    claiming: bool = False
    """The dispatcher asks the store for what is due."""


@attrs.frozen
class LaneStatistics:
    """How full the lanes are."""

    in_flight: int
    lanes: int
    waiting: int
    """Lanes for which something waits in the store, due or not."""
    failing: int


class Lanes:
    """Slots for attempts. Safe to call from any thread. Instants are milliseconds since the epoch."""

    def __init__(self, max_in_flight: int) -> None:
        self._lock = threading.Lock()
        self._max = max_in_flight
        self._lanes: dict[str, _Lane] = {}
        self._in_flight = [0 for _ in Standing]
        self._turns = [Turns() for _ in Standing]
        self._timers = Timers()
        self._closed = True

    def open(self) -> None:
        """Begin to give out slots; until then, and after `close`, everything waits in the store."""
        with self._lock:
            self._closed = False

    def close(self) -> None:
        """Give out no more slots."""
        with self._lock:
            self._closed = True

    def resize(self, max_in_flight: int) -> None:
        """Set the limit over all lanes; slots beyond it are given out again only once they are free."""
        with self._lock:
            self._max = max_in_flight

    def take(self, subscription_id: str, limit: int, now: int, standing: Standing = Standing.FRESH) -> bool:
        """Take a slot for a delivery that was just born, if nothing of its lane is due that is older.

        ``standing`` is that of a lane which is not known yet.
        """
        with self._lock:
            lane = self._lane(subscription_id, limit, standing)
            if (lane.due_at is not None and lane.due_at <= now) or self._grant(lane, 1) == 0:
                return False
            self._occupy(subscription_id, lane, 1)
            return True

    def take_due(self, now: int, most: int) -> dict[str, int]:
        """Take up to ``most`` slots for lanes of which something is due; return how many for which.

        The caller asks the store and then tells `claimed`.
        """
        granted: dict[str, int] = {}
        with self._lock:
            for woken in self._timers.due(now):
                self._queue(woken, self._lanes[woken], now)
            for turns in self._turns:
                while most > 0 and (key := turns.first()) is not None:
                    lane = self._lanes[key]
                    slots = self._grant(lane, most)
                    if slots == 0:
                        break  # neither has anyone behind it a chance: they have as many under way, or more
                    lane.claiming = True
                    self._occupy(key, lane, slots)
                    granted[key] = slots
                    most -= slots
        return granted

    def claimed(self, subscription_id: str, due_at: int | None, unused: int) -> None:
        """A claim ended: the first of what still waits is due at ``due_at``; ``unused`` slots come back."""
        with self._lock:
            lane = self._lanes[subscription_id]
            lane.claiming = False
            lane.due_at = due_at
            self._occupy(subscription_id, lane, -unused)

    def claim_failed(self, subscription_id: str, slots: int) -> None:
        """A claim failed: its slots come back, and what was due still is."""
        with self._lock:
            lane = self._lanes[subscription_id]
            lane.claiming = False
            self._occupy(subscription_id, lane, -slots)

    def give(self, subscription_id: str) -> None:
        """Give a slot back."""
        with self._lock:
            self._occupy(subscription_id, self._lanes[subscription_id], -1)

    def waits(
        self, subscription_id: str, due_at: int, limit: int, standing: Standing = Standing.FRESH
    ) -> None:
        """Note that something waits in the store for this lane, due at ``due_at``."""
        with self._lock:
            lane = self._lane(subscription_id, limit, standing)
            if lane.due_at is None or due_at < lane.due_at:
                lane.due_at = due_at
                self._queue(subscription_id, lane, None)

    def succeeded(self, subscription_id: str) -> None:
        """A receiver took a delivery: its lane widens by one."""
        with self._lock:
            lane = self._lanes.get(subscription_id)
            if lane is not None:
                lane.allowed = min(lane.limit, lane.allowed + 1)
                self._stand(subscription_id, lane, Standing.GOOD)

    def failed(self, subscription_id: str, *, overloaded: bool) -> None:
        """A receiver failed; one that is overloaded or silent halves its lane."""
        with self._lock:
            lane = self._lanes.get(subscription_id)
            if lane is not None:
                if overloaded:
                    lane.allowed = max(1, lane.allowed // 2)
                self._stand(subscription_id, lane, Standing.FAILING)

    def next_due(self) -> int | None:
        """Return when `take_due` could find something: 0 for at once, None for not before something changes."""
        with self._lock:
            for turns in self._turns:
                key = turns.first()
                if key is not None and self._grant(self._lanes[key], 1) > 0:
                    return 0
            return None if self._closed else self._timers.next()

    def statistics(self) -> LaneStatistics:
        """Tell how full the lanes are."""
        with self._lock:
            lanes = self._lanes.values()
            return LaneStatistics(
                in_flight=sum(self._in_flight),
                lanes=len(lanes),
                waiting=sum(lane.due_at is not None for lane in lanes),
                failing=sum(lane.standing is Standing.FAILING for lane in lanes),
            )

    def _lane(self, key: str, limit: int, standing: Standing) -> _Lane:
        lane = self._lanes.get(key)
        if lane is None:
            allowed = 1 if standing is Standing.FAILING else limit
            lane = self._lanes[key] = _Lane(limit=limit, allowed=allowed, standing=standing)
        elif lane.limit != limit:
            lane.allowed = max(1, min(limit, lane.allowed + max(0, limit - lane.limit)))
            lane.limit = limit
        return lane

    def _grant(self, lane: _Lane, most: int) -> int:
        """Return how many slots, at most ``most``, the lane may have now."""
        if self._closed:
            return 0
        good, fresh, failing = self._in_flight
        room = min(most, lane.allowed - lane.in_flight, self._max - good - fresh - failing)
        if lane.standing is Standing.GOOD:
            share = max(1, self._max - self._max // 8)
            room = min(room, share - good)
            uncrowded = share - share // 4 - good
        else:
            share = max(1, self._max // 2)
            room = min(room, share - fresh - failing)
            if lane.standing is Standing.FAILING:
                share = max(1, self._max // 4)
                room = min(room, share - failing)
            uncrowded = share // 2 - self._in_flight[lane.standing]
        return max(0, min(room, max(uncrowded, 0 if lane.in_flight else 1)))

    def _occupy(self, key: str, lane: _Lane, slots: int) -> None:
        lane.in_flight += slots
        self._in_flight[lane.standing] += slots
        self._queue(key, lane, None)

    def _stand(self, key: str, lane: _Lane, standing: Standing) -> None:
        self._turns[lane.standing].remove(key)
        self._in_flight[lane.standing] -= lane.in_flight
        self._in_flight[standing] += lane.in_flight
        lane.standing = standing
        self._queue(key, lane, None)

    def _queue(self, key: str, lane: _Lane, now: int | None) -> None:
        """Put the lane where it belongs: among those whose turn comes, among the timers, or nowhere.

        Only `take_due` knows the time; what may be due before goes through the timers.
        """
        turns = self._turns[lane.standing]
        is_ready = key in turns or (now is not None and lane.due_at is not None and lane.due_at <= now)
        if lane.due_at is None or lane.claiming or lane.allowed <= lane.in_flight:
            turns.remove(key)
            self._timers.remove(key)
        elif is_ready:
            turns.put(key, lane.in_flight)
            self._timers.remove(key)
        else:
            self._timers.put(key, lane.due_at)
        if lane.due_at is None and lane.in_flight == 0 and len(self._lanes) > REMEMBERED:
            del self._lanes[key]
