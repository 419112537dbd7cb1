"""Who may have how many attempts under way: one lane a subscription, one limit over all.

Slots are taken in two places: by the writer's thread, when an event is committed and its delivery is born
claimed, and by the dispatcher's loop for what waits in the store. So this is the one piece of the dispatcher
that threads share; each method holds the lock for a few steps and never waits for anything else.

Isolation, so that dead subscribers delay nobody else, however many they are:

- a lane has its own limit, halved by an overloaded or silent receiver and raised by one with each success
  (additive increase, multiplicative decrease, as TCP does);
- lanes whose last attempt failed share a quarter of all slots;
- lanes that nobody has heard of yet share half of all slots with the failing ones, until a first success;
- in either share half is for whoever comes, of the rest a lane has one slot: many are learned about at once;
- good lanes are served first, failing ones last.
"""

import enum
import heapq
import threading

import attrs

REMEMBERED = 10_000
"""Lanes that are kept although nothing is to be done for them: what is known of them is worth some memory."""


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

    @property
    def room(self) -> int:
        return self.allowed - self.in_flight


@attrs.frozen
class LaneStatistics:
    """How full the lanes are."""

    in_flight: int
    lanes: int
    waiting: int
    """Lanes for which something waits in the store, due or not."""
    failing: int


class Lanes:
    """Slots for attempts. Safe to call from any thread."""

    def __init__(self, max_in_flight: int) -> None:
        self._lock = threading.Lock()
        self._max = max_in_flight
        self._lanes: dict[str, _Lane] = {}
        self._in_flight = [0 for _ in Standing]
        self._due: list[list[tuple[int, str]]] = [[] for _ in Standing]
        """By standing: a heap of (due, lane) of the lanes that wait and have room."""
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

    def take(self, subscription_id: str, limit: int, standing: Standing = Standing.FRESH) -> bool:
        """Take a slot for a delivery that was just born, if nothing older of its lane waits.

        ``standing`` is that of a lane which is not known yet.
        """
        with self._lock:
            lane = self._lane(subscription_id, limit, standing)
            if lane.due_at is not None or self._grant(lane, 1) == 0:
                return False
            self._occupy(lane, 1)
            return True

    def take_due(self, now: int, most: int) -> dict[str, int]:
        """Take up to ``most`` slots for lanes of which something is due; return how many for which.

        The lane whose turn is longest due comes first. One without room waits for its own next free slot.
        """
        granted: dict[str, int] = {}
        with self._lock:
            for due in self._due:
                while due and most > 0 and due[0][0] <= now:
                    lane = self._first(due)
                    if lane is None:
                        continue
                    key = due[0][1]
                    slots = self._grant(lane, most)
                    if slots == 0:
                        break  # neither has anyone behind it a chance
                    heapq.heappop(due)
                    if key not in granted:
                        self._occupy(lane, slots)
                        granted[key] = slots
                        most -= slots
        return granted

    def give(self, subscription_id: str, slots: int = 1) -> None:
        """Give slots back."""
        if slots == 0:
            return
        with self._lock:
            lane = self._lanes[subscription_id]
            self._occupy(lane, -slots)
            self._forget_or_queue(subscription_id, lane)

    def waits(self, subscription_id: str, due_at: int | None) -> None:
        """Note when the first of what waits in the store for this lane is due; None: nothing waits."""
        with self._lock:
            lane = self._lanes.get(subscription_id)
            if lane is not None:
                lane.due_at = due_at
                self._forget_or_queue(subscription_id, lane)

    def waits_too(
        self, subscription_id: str, due_at: int, limit: int, standing: Standing = Standing.FRESH
    ) -> None:
        """Note that something more waits in the store for this lane, due at ``due_at``."""
        with self._lock:
            lane = self._lane(subscription_id, limit, standing)
            if lane.due_at is None or due_at < lane.due_at:
                lane.due_at = due_at
                self._forget_or_queue(subscription_id, lane)

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
        """Return when the first waiting lane that could have a slot is due, in milliseconds; None: none is."""
        with self._lock:
            instants = []
            for due in self._due:
                lane = None
                while due and lane is None:
                    lane = self._first(due)
                if lane is not None and self._grant(lane, 1) > 0:
                    instants.append(due[0][0])
            return min(instants, default=None)

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
        room = min(most, lane.room, self._max - good - fresh - failing)
        if lane.standing is not Standing.GOOD:
            share = max(1, self._max // 2)
            room = min(room, share - fresh - failing)
            if lane.standing is Standing.FAILING:
                share = max(1, self._max // 4)
                room = min(room, share - failing)
            uncrowded = share // 2 - self._in_flight[lane.standing]
            room = min(room, max(uncrowded, 0 if lane.in_flight else 1))
        return max(0, room)

    def _occupy(self, lane: _Lane, slots: int) -> None:
        lane.in_flight += slots
        self._in_flight[lane.standing] += slots

    def _stand(self, key: str, lane: _Lane, standing: Standing) -> None:
        self._in_flight[lane.standing] -= lane.in_flight
        self._in_flight[standing] += lane.in_flight
        lane.standing = standing
        self._forget_or_queue(key, lane)

    def _first(self, due: list[tuple[int, str]]) -> _Lane | None:
        """Return the lane at the top of a heap; drop the entry and return None if it does not hold any more."""
        at, key = due[0]
        lane = self._lanes.get(key)
        if lane is not None and lane.due_at == at and lane.room > 0 and due is self._due[lane.standing]:
            return lane
        heapq.heappop(due)
        return None

    def _forget_or_queue(self, key: str, lane: _Lane) -> None:
        if lane.due_at is not None:
            if lane.room > 0:
                heapq.heappush(self._due[lane.standing], (lane.due_at, key))
        elif lane.in_flight == 0 and len(self._lanes) > REMEMBERED:
            del self._lanes[key]
