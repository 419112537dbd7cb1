"""Who may have how many attempts under way: one lane a subscription, one limit over all.

Slots are taken in two places: by the writer's thread, when an event is committed and its delivery is born
claimed, and by the dispatcher's loop for what waits in the store. So this is the one piece of the dispatcher
that threads share; each method holds the lock for a few steps and never waits for anything else.

Isolation, so that dead subscribers delay nobody else:

- a lane has its own limit, halved by an overloaded or silent receiver and raised by one with each success
  (additive increase, multiplicative decrease, as TCP does);
- lanes whose last attempt failed share at most half of all slots, however many they are.
"""

import heapq
import threading
from collections.abc import Iterable

import attrs


@attrs.define
class _Lane:
    limit: int
    in_flight: int = 0
    allowed: int = 0
    """The adaptive limit, at most ``limit``; at least one."""
    troubled: bool = False
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
    troubled: int


class Lanes:
    """Slots for attempts. Safe to call from any thread."""

    def __init__(self, max_in_flight: int) -> None:
        self._lock = threading.Lock()
        self._max = max_in_flight
        self._lanes: dict[str, _Lane] = {}
        self._in_flight = 0
        self._troubled_in_flight = 0
        self._due: tuple[list[tuple[int, str]], list[tuple[int, str]]] = ([], [])
        """Heaps of (due, lane): of the healthy lanes that wait and have room, and of the troubled."""
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

    def take(self, subscription_id: str, limit: int) -> bool:
        """Take a slot for a delivery that was just born, if nothing older of its lane waits."""
        with self._lock:
            lane = self._lane(subscription_id, limit)
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
            lane.in_flight -= slots
            self._in_flight -= slots
            if lane.troubled:
                self._troubled_in_flight -= slots
            self._forget_or_queue(subscription_id, lane)

    def waits(self, subscription_id: str, due_at: int | None) -> None:
        """Note when the first of what waits in the store for this lane is due; None: nothing waits."""
        with self._lock:
            lane = self._lanes.get(subscription_id)
            if lane is not None:
                lane.due_at = due_at
                self._forget_or_queue(subscription_id, lane)

    def waits_too(self, subscription_id: str, due_at: int, limit: int) -> None:
        """Note that something more waits in the store for this lane, due at ``due_at``."""
        with self._lock:
            lane = self._lane(subscription_id, limit)
            if lane.due_at is None or due_at < lane.due_at:
                lane.due_at = due_at
                self._forget_or_queue(subscription_id, lane)

    def succeeded(self, subscription_id: str) -> None:
        """A receiver took a delivery: its lane widens by one."""
        self._adapt(subscription_id, troubled=False, overloaded=False)

    def failed(self, subscription_id: str, *, overloaded: bool) -> None:
        """A receiver failed; one that is overloaded or silent halves its lane."""
        self._adapt(subscription_id, troubled=True, overloaded=overloaded)

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
            lanes: Iterable[_Lane] = self._lanes.values()
            return LaneStatistics(
                in_flight=self._in_flight,
                lanes=len(self._lanes),
                waiting=sum(lane.due_at is not None for lane in lanes),
                troubled=sum(lane.troubled for lane in lanes),
            )

    def _lane(self, key: str, limit: int) -> _Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(limit=limit, allowed=limit)
        elif lane.limit != limit:
            lane.allowed = max(1, min(limit, lane.allowed + max(0, limit - lane.limit)))
            lane.limit = limit
        return lane

    def _grant(self, lane: _Lane, most: int) -> int:
        if self._closed:
            return 0
        room = min(most, lane.room, self._max - self._in_flight)
        if lane.troubled:
            room = min(room, max(1, self._max // 2) - self._troubled_in_flight)
        return max(0, room)

    def _occupy(self, lane: _Lane, slots: int) -> None:
        lane.in_flight += slots
        self._in_flight += slots
        if lane.troubled:
            self._troubled_in_flight += slots

    def _adapt(self, key: str, *, troubled: bool, overloaded: bool) -> None:
        with self._lock:
            lane = self._lanes.get(key)
            if lane is None:
                return
            if troubled != lane.troubled:
                lane.troubled = troubled
                self._troubled_in_flight += lane.in_flight if troubled else -lane.in_flight
                self._forget_or_queue(key, lane)
            if overloaded:
                lane.allowed = max(1, lane.allowed // 2)
            elif not troubled:
                lane.allowed = min(lane.limit, lane.allowed + 1)

    def _first(self, due: list[tuple[int, str]]) -> _Lane | None:
        """Return the lane at the top of a heap; drop the entry and return None if it does not hold any more."""
        at, key = due[0]
        lane = self._lanes.get(key)
        if lane is not None and lane.due_at == at and lane.room > 0 and due is self._due[lane.troubled]:
            return lane
        heapq.heappop(due)
        return None

    def _forget_or_queue(self, key: str, lane: _Lane) -> None:
        if lane.due_at is not None:
            if lane.room > 0:
                heapq.heappush(self._due[lane.troubled], (lane.due_at, key))
        elif lane.in_flight == 0 and not lane.troubled and lane.allowed == lane.limit:
            del self._lanes[key]
