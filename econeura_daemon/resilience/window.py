"""Counts over the last seconds, in buckets: constant memory, no timer, no list of instants."""


class Window:
    """Counts all of something and a part of it over the last ``seconds``, exact to one bucket.

    The oldest bucket is dropped as a whole, so a count covers between ``seconds - seconds / buckets`` and
    ``seconds``. A ``now`` that goes back counts as the latest one that was seen.
    """

    __slots__ = ("_all", "_buckets", "_part", "_slot", "_width", "all", "part")

    def __init__(self, seconds: float = 10.0, buckets: int = 10) -> None:
        if not seconds > 0 or buckets < 1:
            raise ValueError(f"a window has seconds > 0 and buckets >= 1, got {seconds} and {buckets}")
        self._width = seconds / buckets
        self._buckets = buckets
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._all = [0] * self._buckets
        self._part = [0] * self._buckets
        self._slot = 0
        self.all = 0
        """How many, as of the last `count` or `turn`."""
        self.part = 0
        """How many of them were of the part that is counted."""

    def count(self, now: float, number: int = 1, part: int = 0) -> None:
        """Count ``number`` of them, ``part`` of which are of the part."""
        if now // self._width != self._slot:
            self.turn(now)
        bucket = self._slot % self._buckets
        self._all[bucket] += number
        if part:
            self._part[bucket] += part
            self.part += part
        self.all += number

    def turn(self, now: float) -> None:
        """Drop what is too old at ``now``."""
        slot = int(now // self._width)
        behind = slot - self._slot
        if behind <= 0:
            return
        if behind >= self._buckets:
            self.clear()
        else:
            for passed in range(self._slot + 1, slot + 1):
                bucket = passed % self._buckets
                self.all -= self._all[bucket]
                self.part -= self._part[bucket]
                self._all[bucket] = self._part[bucket] = 0
        self._slot = slot
