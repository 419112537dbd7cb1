"""Two orders in which lanes wait: for their turn, and for an instant. Each key stands in either at most once."""

import heapq


class Turns:
    """Keys that wait for their turn: the one with the least weight first, of equal ones who waits longest."""

    def __init__(self) -> None:
        self._weights: dict[str, int] = {}
        self._by_weight: dict[int, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._weights)

    def __contains__(self, key: str) -> bool:
        return key in self._weights

    def put(self, key: str, weight: int) -> None:
        """Let ``key`` wait; with another weight than before it goes to the end of its equals."""
        if self._weights.get(key) != weight:
            self.remove(key)
            self._weights[key] = weight
            self._by_weight.setdefault(weight, {})[key] = None

    def remove(self, key: str) -> None:
        """Forget ``key``, if it waits."""
        weight = self._weights.pop(key, None)
        if weight is not None:
            equals = self._by_weight[weight]
            del equals[key]
            if not equals:
                del self._by_weight[weight]

    def first(self) -> str | None:
        """Return whose turn it is. The distinct weights are few: numbers of attempts under way."""
        if not self._by_weight:
            return None
        return next(iter(self._by_weight[min(self._by_weight)]))


class Timers:
    """Keys that wait for an instant: a heap whose overtaken entries are dropped when they surface, or are many."""

    def __init__(self) -> None:
        self._instants: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._instants)

    def put(self, key: str, at: int) -> None:
        """Let ``key`` wait for ``at``, instead of what it waited for before."""
        if self._instants.get(key) == at:
            return
        self._instants[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._instants) + 64:
            self._heap = [(instant, name) for name, instant in self._instants.items()]
            heapq.heapify(self._heap)

    def remove(self, key: str) -> None:
        """Forget ``key``, if it waits."""
        self._instants.pop(key, None)

    def next(self) -> int | None:
        """Return the first instant that somebody waits for."""
        heap = self._heap
        while heap and self._instants.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: int) -> list[str]:
        """Remove and return the keys whose instant has come."""
        found: list[str] = []
        while (at := self.next()) is not None and at <= now:
            key = heapq.heappop(self._heap)[1]
            del self._instants[key]
            found.append(key)
        return found
